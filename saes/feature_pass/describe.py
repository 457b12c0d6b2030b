"""Spilled text and codes -> everything about every feature, a block of features at a time.

Axes: f features, g features of a block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from saes.feature_pass import coactivation, label_auc, neighbours
from saes.feature_pass.choose import band_firings, random_firings, strongest_spans
from saes.feature_pass.coactivation import Coactivation
from saes.feature_pass.cut import cut_windows
from saes.feature_pass.detection import detection_auc
from saes.feature_pass.firing import bin_edges, density_interval, strength
from saes.feature_pass.settings import FeatureSettings
from saes.feature_pass.spill import Firings, Spill
from saes.feature_pass.text import Text, read_text
from saes.feature_windows import Records

BLOCK_FIRINGS = 1 << 21
BLOCK_CELLS = 1 << 23
BLOCK_FEATURES = 1024
SHOWN_TOKENS = 1 << 21
"""Tokens of windows in memory at once, each about 70 bytes while they are cut and counted."""
N_FIRING_TOKENS = 5

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that blocks share: the text with its labels, the pair counter, decoder rows of length one, levels."""

    spill: Spill
    text: Text
    tokens: label_auc.Labels
    pairs: label_auc.Labels
    coactivation: Coactivation
    directions: Float[Tensor, "f d"]
    level: Int[np.ndarray, " f"]

    @staticmethod
    def of(spill: Spill, d_vocab: int, directions: Float[Tensor, "f d"], level: Int[np.ndarray, " f"]) -> "Corpus":
        """Read the text and prepare what the blocks need."""
        text = read_text(spill, d_vocab)
        labels = label_auc.token_labels(text), label_auc.bigram_labels(text)
        counter = Coactivation(spill, text, directions.shape[0])
        return Corpus(spill, text, *labels, counter, neighbours.unit_rows(directions), level)


def describe(
    corpus: Corpus,
    settings: FeatureSettings,
    write: Callable[[Records], object],
    on_features: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Every column of FeatureStatistics but logit effects; windows go to `write`, block after block in order."""
    parts: list[Columns] = []
    offsets = corpus.spill.feature_offsets()
    for first, last in blocks(offsets):
        firings = corpus.spill.firings(offsets, first, last)
        parts.append(_block(corpus, firings, settings, write))
        on_features(last)
    text = corpus.text
    return {
        "n_tokens": text.n_kept,
        "n_documents": int((text.doc_tokens > 0).sum()),
        "d_sae": corpus.level.shape[0],
        "n_coactivation_tokens": corpus.coactivation.n_tokens,
        "bin_edges": bin_edges(corpus.spill.largest),
        "level": corpus.level,
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
    }


def blocks(offsets: Int[np.ndarray, "shards f_plus_1"]) -> Iterator[tuple[int, int]]:
    """Runs of features whose firings and pair counts fit into memory; one feature at least."""
    total = offsets.sum(0)
    d_sae, first = total.shape[0] - 1, 0
    while first < d_sae:
        fits = int(np.searchsorted(total, total[first] + BLOCK_FIRINGS, side="right")) - 1
        last = min(max(fits, first + 1), first + min(BLOCK_FEATURES, max(1, BLOCK_CELLS // d_sae)), d_sae)
        yield first, last
        first = last


def _block(corpus: Corpus, firings: Firings, settings: FeatureSettings, write: Callable[[Records], object]) -> Columns:
    text = corpus.text
    strong = strength(firings, largest=corpus.spill.largest, n_bands=settings.n_bands)
    columns = {
        "density": firings.counts / max(text.n_kept, 1),
        "density_interval": density_interval(firings, text),
        "max_activation": strong.maximum,
        "mean_activation": strong.mean,
        "histogram": strong.histogram,
        "quantile_edges": strong.edges,
        "detection_auc": _show(text, firings, strong.edges, settings, write),
    }
    return columns | _labels(corpus, firings) | _relations(corpus, firings, settings)


def _show(
    text: Text,
    firings: Firings,
    edges: Float[np.ndarray, "g Q_plus_1"],
    settings: FeatureSettings,
    write: Callable[[Records], object],
) -> Float[np.ndarray, " g"]:
    """Write the windows of a block, as many features at a time as memory allows; gives their detection AUC."""
    step, found = max(1, SHOWN_TOKENS // settings.shown_tokens), []
    for first in range(0, firings.n_features, step):
        part = firings.part(first, min(first + step, firings.n_features))
        records = cut_all(text, part, edges[first : first + step], settings)
        found.append(detection_auc(part, text, records))
        write(records)
    return np.concatenate(found)


def cut_all(text: Text, firings: Firings, edges: Float[np.ndarray, "g Q_plus_1"], settings: FeatureSettings) -> Records:
    """Windows of all kinds, side by side."""
    drawn = (
        (strongest_spans(firings, text, settings.n_top, settings.seed), settings.n_top),
        (random_firings(firings, settings.n_random, settings.seed), settings.n_random),
        (band_firings(firings, edges, settings.per_band, settings.seed), settings.n_bands * settings.per_band),
    )
    return np.concatenate([cut_windows(firings, text, chosen, n, settings.window) for chosen, n in drawn], axis=1)


def _labels(corpus: Corpus, firings: Firings) -> Columns:
    """What the tokens on which a feature fires tell."""
    counts = label_auc.count_labels(firings, corpus.text, corpus.tokens)
    pair_counts = label_auc.count_labels(firings, corpus.text, corpus.pairs)
    tokens, share = label_auc.most_fired_on(firings, counts, N_FIRING_TOKENS)
    by_pair = label_auc.bigram_auc(firings, corpus.text, corpus.tokens, counts, corpus.pairs, pair_counts)
    return {
        "firing_tokens": tokens,
        "firing_token_share": share,
        "token_auc": label_auc.token_auc(firings, corpus.tokens, counts),
        "bigram_auc": by_pair,
    }


def _relations(corpus: Corpus, firings: Firings, settings: FeatureSettings) -> Columns:
    """Other features: those that fire along, those that point the same way, those above and below."""
    first, last = firings.first, firings.first + firings.n_features
    together = corpus.coactivation.block(firings)
    partners = coactivation.partners(together, settings.n_partners)
    near, cosine = neighbours.nearest(corpus.directions, first, last, settings.n_neighbours)
    parents = coactivation.parents(together, corpus.level, settings.n_parents)
    children = coactivation.children(together, corpus.level, settings.n_children)
    return {
        "partners": partners.ids,
        "partner_count": partners.count,
        "partner_given_feature": partners.given_feature,
        "feature_given_partner": partners.given_other,
        "partner_lift": partners.lift,
        "partner_correlation": partners.score,
        "neighbours": near,
        "neighbour_cosine": cosine,
        "parents": parents.ids,
        "parent_cosine": neighbours.cosines(corpus.directions, first, parents.ids),
        "parent_given_feature": parents.given_feature,
        "feature_given_parent": parents.given_other,
        "children": children.ids,
        "child_cosine": neighbours.cosines(corpus.directions, first, children.ids),
        "child_given_feature": children.given_feature,
        "feature_given_child": children.given_other,
    }
