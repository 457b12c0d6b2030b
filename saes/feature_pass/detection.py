"""Whether what a feature's page shows tells where the feature fires on text that the page does not show.

Axes: f features of a block, E windows, w window length, m (feature, token) pairs. A content is a document and all
copies of it (saes.feature_pass.text).
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from saes.feature_pass.group_auc import grouped_auc
from saes.feature_pass.label_auc import MIN_FIRINGS
from saes.feature_pass.ragged import count_keys, run_starts, segment_sums
from saes.feature_pass.spill import Firings
from saes.feature_pass.text import Text
from saes.feature_windows import Records

HIDDEN_CELLS = 1 << 21
"""Features times token ids whose counts in shown documents are in memory at once."""


def detection_auc(firings: Firings, text: Text, records: Records) -> Float[np.ndarray, " f"]:
    """AUC of a detector made from the shown windows alone, on all kept tokens but those of documents shown.

    Copies of a shown document count as shown.

    The detector scores a token by the share of its occurrences in the shown windows on which the feature fires there; a
    token that is not shown scores 0. So it knows what a reader of the page can count, and nothing of the text it is
    tried on. NaN with fewer than MIN_FIRINGS firings in those documents.
    """
    row, token, score = shown_rates(records, text.d_vocab)
    shown = _shown_contents(records, text)
    unseen = ~_contains(shown, firings.rows() * text.n_contents + text.content[text.documents_of(firings.places)])
    fired_row = firings.rows()[unseen]
    keys, counts = count_keys(fired_row * text.d_vocab + text.token_ids[firings.places[unseen]])
    wanted = row * text.d_vocab + token
    positives = _values_at(keys, counts, wanted)
    hidden, hidden_tokens = _in_shown(shown, text, firings.n_features, wanted)
    items = np.asarray(text.content_counts.sum(0)).ravel()[token] - hidden
    all_positives = np.bincount(fired_row, minlength=firings.n_features)
    found = grouped_auc(row, score, positives, items, all_positives, text.n_kept - hidden_tokens)
    found[all_positives < MIN_FIRINGS] = np.nan
    return found


def shown_rates(
    records: Records, d_vocab: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Row, token and share of its shown occurrences that fire, where that is above zero."""
    tokens = records["tokens"].astype(np.int64)
    used = tokens >= 0
    row = np.broadcast_to(np.arange(records.shape[0])[:, None, None], tokens.shape)[used]
    fires = records["acts"][used] > 0
    key, counts = count_keys((row * d_vocab + tokens[used]) * 2 + fires)
    starts = run_starts(key // 2)
    shown, fired = (segment_sums(np.where(key % 2 >= least, counts, 0), starts) for least in (0, 1))
    pair = key[starts][fired > 0] // 2
    return pair // d_vocab, pair % d_vocab, (fired / np.maximum(shown, 1))[fired > 0]


def _shown_contents(records: Records, text: Text) -> Int[np.ndarray, " _"]:
    """Keys row * n_contents + content of the pairs that are shown, ascending."""
    row, slot = np.nonzero(records["value"] > 0)
    names = np.zeros(text.n_documents, dtype=np.int64)
    names[text.owner] = text.document
    # Documents are counted in the order of their numbers.
    document = np.searchsorted(names, records["document"][row, slot])
    return np.unique(row * text.n_contents + text.content[document])


def _contains(sorted_keys: Int[np.ndarray, " _"], wanted: Int[np.ndarray, " n"]) -> np.ndarray:
    return _values_at(sorted_keys, np.ones_like(sorted_keys), wanted) > 0


def _values_at(
    sorted_keys: Int[np.ndarray, " m"], values: Int[np.ndarray, " m"], wanted: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """The value beside each wanted key; 0 where the key is not there."""
    if sorted_keys.size == 0:
        return np.zeros_like(wanted)
    place = np.minimum(np.searchsorted(sorted_keys, wanted), sorted_keys.shape[0] - 1)
    return np.where(sorted_keys[place] == wanted, values[place], 0)


def _in_shown(
    shown: Int[np.ndarray, " _"], text: Text, n_features: int, wanted: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " f"]]:
    """How often each wanted (row, token) stands in the row's shown documents, and all kept tokens there.

    `wanted` ascends. A few rows at a time: their tokens could be the whole vocabulary.
    """
    row, content = shown // text.n_contents, shown % text.n_contents
    cells = (np.ones(shown.shape[0], np.int32), (row, content))
    marks = sparse.csr_array(cells, shape=(n_features, text.n_contents))
    step, found = max(1, HIDDEN_CELLS // text.d_vocab), []
    for first in range(0, n_features, step):
        counts = sparse.coo_array(marks[first : first + step] @ text.content_counts)
        keys = (counts.coords[0].astype(np.int64) + first) * text.d_vocab + counts.coords[1]
        order = np.argsort(keys)
        low, high = np.searchsorted(wanted, np.array([first, first + step]) * text.d_vocab)
        found.append(_values_at(keys[order], counts.data[order].astype(np.int64), wanted[low:high]))
    n_tokens = np.asarray(text.content_counts.sum(1)).ravel()[content]
    return np.concatenate(found), np.bincount(row, n_tokens, n_features).astype(np.int64)
