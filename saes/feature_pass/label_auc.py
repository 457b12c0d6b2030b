"""How well the current token, or it with the one before, tells whether a feature fires.

Axes: n tokens of text, f features of a block, l labels, m (feature, label) pairs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from saes.feature_pass.group_auc import grouped_auc
from saes.feature_pass.ragged import count_keys, largest_in_rows, run_starts, segment_sums
from saes.feature_pass.spill import Firings
from saes.feature_pass.text import Text, mix

MIN_FIRINGS = 10
"""Firings that an AUC needs, in each half of the documents."""
MIN_SEEN = 4
"""Times that a bigram must stand in the first half to have a rate of its own."""
BUCKETS = 1 << 24
"""Bigrams are told apart by a hash this wide; exactly, where the vocabulary squared is no larger."""


@dataclass(frozen=True, slots=True)
class Labels:
    """A label for every token of text, and how often each stands on kept tokens of the halves (first, second)."""

    of_token: Int[np.ndarray, " n"]
    seen: Int[np.ndarray, "l 2"]

    @property
    def n(self) -> int:
        return int(self.seen.shape[0])


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Firings of each feature of a block by label, in each half; ordered by (row, label)."""

    row: Int[np.ndarray, " m"]
    label: Int[np.ndarray, " m"]
    first: Int[np.ndarray, " m"]
    second: Int[np.ndarray, " m"]


def token_labels(text: Text) -> Labels:
    """Each token labelled by itself."""
    return _labels(text, text.token_ids.astype(np.int32), text.d_vocab)


def bigram_labels(text: Text) -> Labels:
    """Each token labelled by itself and the token before, where the first half holds that pair MIN_SEEN times or more.

    Otherwise, and at the start of a span, by itself. Labels below d_vocab are tokens, those above are pairs.
    """
    pair = np.empty(text.token_ids.shape[0], dtype=np.int64)
    pair[1:] = text.token_ids[:-1].astype(np.int64) * text.d_vocab + text.token_ids[1:]
    if text.d_vocab**2 > BUCKETS:
        pair = (mix(pair.astype(np.uint64)) % np.uint64(BUCKETS)).astype(np.int64)
    inner = np.ones(pair.shape[0], dtype=bool)
    inner[text.begin[:-1]] = False
    pair[~inner] = 0
    learnt = inner & text.keep & ~text.second[text.owner[text.span]]
    frequent = np.bincount(pair[learnt], minlength=min(text.d_vocab**2, BUCKETS)) >= MIN_SEEN
    number = np.cumsum(frequent, dtype=np.int32) - 1
    own = np.where(inner & frequent[pair], text.d_vocab + number[pair], text.token_ids)
    return _labels(text, own.astype(np.int32), text.d_vocab + int(frequent.sum()))


def _labels(text: Text, of_token: Int[np.ndarray, " n"], n_labels: int) -> Labels:
    second = text.second[text.owner[text.span[text.keep]]]
    cells = np.bincount(of_token[text.keep].astype(np.int64) * 2 + second, minlength=2 * n_labels)
    return Labels(of_token, cells.reshape(n_labels, 2))


def count_labels(firings: Firings, text: Text, labels: Labels) -> LabelCounts:
    """Firings by feature, label and half."""
    second = text.second[text.documents_of(firings.places)]
    key, counts = count_keys((firings.rows() * labels.n + labels.of_token[firings.places]) * 2 + second)
    starts = run_starts(key // 2)
    first, other = (segment_sums(np.where(key % 2 == half, counts, 0), starts) for half in (0, 1))
    pair = key[starts] // 2
    return LabelCounts(pair // labels.n, pair % labels.n, first, other)


def most_fired_on(
    firings: Firings, tokens: LabelCounts, k: int
) -> tuple[Int[np.ndarray, "f k"], Float[np.ndarray, "f k"]]:
    """The k tokens on which each feature fires most (-1 for none), and their share of its firings."""
    shape = (firings.n_features, k)
    found, share = np.full(shape, -1, dtype=np.int64), np.zeros(shape, np.float32)
    both = tokens.first + tokens.second
    chosen, rank = largest_in_rows(tokens.row, both, k)
    at = tokens.row[chosen], rank
    found[at] = tokens.label[chosen]
    share[at] = both[chosen] / firings.counts[at[0]]
    return found, share


def token_auc(firings: Firings, tokens: Labels, counts: LabelCounts) -> Float[np.ndarray, " f"]:
    """AUC, over the second half of the documents, of telling firing by the token's rate of firing in the first half.

    A token that the first half lacks gets the feature's rate over all tokens. NaN where either half holds fewer than
    MIN_FIRINGS firings.
    """
    halves = _Halves(firings.n_features, tokens, counts)
    seen = counts.first > 0
    row, label = counts.row[seen], counts.label[seen]
    score = counts.first[seen] / tokens.seen[label, 0]
    return halves.auc(row, score, counts.second[seen], tokens.seen[label, 1])


def bigram_auc(
    firings: Firings, text: Text, tokens: Labels, token_counts: LabelCounts, pairs: Labels, pair_counts: LabelCounts
) -> Float[np.ndarray, " f"]:
    """As `token_auc`, by the rate of the current token after the one before, or by the token's where that is rare."""
    halves = _Halves(firings.n_features, tokens, token_counts)
    is_pair = (pair_counts.label >= text.d_vocab) & (pair_counts.first > 0)
    label = pair_counts.label[is_pair]
    score = pair_counts.first[is_pair] / pairs.seen[label, 0]
    # Tokens whose pair is rare keep the token's rate over all of the first half.
    seen = token_counts.first > 0
    row, token = token_counts.row[seen], token_counts.label[seen]
    token_score = token_counts.first[seen] / tokens.seen[token, 0]
    return halves.auc(
        np.concatenate([pair_counts.row[is_pair], row]),
        np.concatenate([score, token_score]),
        np.concatenate([pair_counts.second[is_pair], _looked_up(pair_counts, row, token, pairs.n)]),
        np.concatenate([pairs.seen[label, 1], pairs.seen[token, 1]]),
    )


def _looked_up(counts: LabelCounts, row: np.ndarray, label: np.ndarray, n_labels: int) -> Int[np.ndarray, " _"]:
    keys, wanted = counts.row * n_labels + counts.label, row * n_labels + label
    place = np.minimum(np.searchsorted(keys, wanted), max(keys.shape[0] - 1, 0))
    return np.where(keys[place] == wanted, counts.second[place], 0) if keys.size else np.zeros_like(row)


class _Halves:
    """Firings and tokens of a block's features in both halves, with the group of tokens that the first half lacks."""

    def __init__(self, n_features: int, tokens: Labels, counts: LabelCounts) -> None:
        self._n = n_features
        self._first, self._second = (np.bincount(counts.row, x, n_features) for x in (counts.first, counts.second))
        self._n_first, self._n_second = (int(x) for x in tokens.seen.sum(0))
        lacking = tokens.seen[:, 0] == 0
        self._unseen = np.bincount(counts.row, np.where(lacking[counts.label], counts.second, 0), n_features)
        self._n_unseen = int(tokens.seen[lacking, 1].sum())

    def auc(
        self, row: np.ndarray, score: np.ndarray, positives: np.ndarray, items: np.ndarray
    ) -> Float[np.ndarray, " f"]:
        every = np.arange(self._n)
        rate = self._first / max(self._n_first, 1)
        groups = (
            np.concatenate([row, every]),
            np.concatenate([score, rate]),
            np.concatenate([positives, self._unseen.astype(np.int64)]),
            np.concatenate([items, np.full(self._n, self._n_unseen)]),
        )
        totals = self._second.astype(np.int64), np.full(self._n, self._n_second)
        found = grouped_auc(*groups, *totals)
        found[(self._first < MIN_FIRINGS) | (self._second < MIN_FIRINGS)] = np.nan
        return found
