"""Which features fire together, over the whole dictionary, and which Matryoshka features imply which.

Axes: f all features, g features of a block, n tokens, N kept relations.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from saes.feature_pass.ragged import largest_in_rows
from saes.feature_pass.spill import Firings, Rows, Spill
from saes.feature_pass.text import Text, mix

MIN_TOGETHER = 5
"""Tokens on which two features must fire together to be called related."""
PAIRS_PER_TOKEN = 4096
"""Mean number of ordered pairs of firing features per token up to which every token is counted (L0 of about 64).
Above it one token in s is, so that time stays in proportion to the text."""
ROW_FIRINGS = 1 << 24
"""Firings in memory while pairs are counted."""
STEP_PAIRS = 1 << 20
RELATED_CELLS = 1 << 20
Score = Float[np.ndarray, " m"]


@dataclass(frozen=True, slots=True)
class Related:
    """Other features of each feature, best first; id -1 and zeros where there is none."""

    ids: Int[np.ndarray, "g N"]
    count: Int[np.ndarray, "g N"]
    given_feature: Float[np.ndarray, "g N"]
    given_other: Float[np.ndarray, "g N"]
    lift: Float[np.ndarray, "g N"]
    score: Float[np.ndarray, "g N"]


@dataclass(frozen=True, slots=True)
class Together:
    """Tokens on which features of a block fire together with every feature, with what chance needs to be known.

    counts (g, f); firings (f,) on the counted tokens, of which there are n_tokens; the block begins at `first`.
    """

    counts: Int[np.ndarray, "g f"]
    firings: Int[np.ndarray, " f"]
    n_tokens: int
    first: int

    def part(self, rows: slice) -> "Together":
        """Some features of the block."""
        return Together(self.counts[rows], self.firings, self.n_tokens, self.first + rows.start)


class Coactivation:
    """Counts pairs of firing features block by block; exact on the tokens counted, one in `stride`."""

    def __init__(self, spill: Spill, text: Text, d_sae: int) -> None:
        self._spill, self._d_sae = spill, d_sae
        self._held = list(spill.iter_rows(ROW_FIRINGS)) if spill.n_firings <= ROW_FIRINGS else None
        pairs = sum(int(np.square(np.diff(offsets)).sum()) for _, offsets, _ in self._groups())
        self._stride = max(1, math.ceil(pairs / (PAIRS_PER_TOKEN * max(text.n_kept, 1))))
        self.n_tokens = int(text.keep[counted(np.arange(text.keep.shape[0]), self._stride)].sum())
        self._firings = np.zeros(d_sae, dtype=np.int64)
        for first, offsets, features in self._groups():
            drawn = counted(first + np.arange(offsets.shape[0] - 1), self._stride)
            self._firings += np.bincount(features[np.repeat(drawn, np.diff(offsets))], minlength=d_sae)

    def _groups(self) -> Iterator[Rows]:
        return iter(self._held) if self._held is not None else self._spill.iter_rows(ROW_FIRINGS)

    def block(self, firings: Firings) -> Together:
        """Counts of a block of features."""
        counts = np.zeros((firings.n_features, self._d_sae), np.int32)
        drawn = counted(firings.places, self._stride)
        rows, places = firings.rows()[drawn], firings.places[drawn]
        for first, offsets, features in self._groups():
            ones = np.ones(features.shape[0], np.int8)
            tokens = sparse.csr_array((ones, features, offsets), shape=(offsets.shape[0] - 1, self._d_sae))
            here = (places >= first) & (places < first + tokens.shape[0])
            _add_pairs(counts, tokens, rows[here], places[here] - first)
        return Together(counts, self._firings, self.n_tokens, firings.first)


def counted(places: Int[np.ndarray, " n"], stride: int) -> Bool[np.ndarray, " n"]:
    """One place in `stride`, by hash: every stride-th would meet the same positions of rows of equal length."""
    drawn: np.ndarray = mix(places.astype(np.uint64)) % np.uint64(stride) == 0
    return drawn


def _add_pairs(
    counts: Int[np.ndarray, "g f"], tokens: sparse.csr_array, rows: Int[np.ndarray, " e"], places: Int[np.ndarray, " e"]
) -> None:
    """Gather the features of every token on which a row fires, and count them row by row.

    Three times as fast as a sparse product, whose inner loop branches on every pair.
    """
    ends = np.searchsorted(rows, np.arange(counts.shape[0] + 1))
    pairs = np.append(0, np.cumsum(np.diff(tokens.indptr)[places]))[ends]
    first = 0
    while first < counts.shape[0]:
        last = max(first + 1, int(np.searchsorted(pairs, pairs[first] + STEP_PAIRS, side="right")) - 1)
        gathered = tokens[places[ends[first] : ends[last]]]
        bounds = gathered.indptr[ends[first : last + 1] - ends[first]]
        for row in range(first, last):
            met = gathered.indices[bounds[row - first] : bounds[row - first + 1]]
            if met.size:
                counts[row] += np.bincount(met, minlength=counts.shape[1]).astype(np.int32)
        first = last


def partners(together: Together, k: int) -> Related:
    """Features that fire with each one more often than chance, largest correlation of the firing indicators first.

    Source: the phi coefficient (Pearson's correlation of two binary variables).
    """

    def correlation(part: Together, met: Met) -> Score:
        n, own, other = float(part.n_tokens), met.own.astype(np.float64), met.others.astype(np.float64)
        spread = np.sqrt(own * (n - own) * other * (n - other))
        score = (n * met.count - own * other) / np.maximum(spread, 1e-300)
        return np.where(met.row + part.first == met.other, 0, score)

    return _best(together, correlation, k)


def parents(together: Together, level: Int[np.ndarray, " f"], k: int) -> Related:
    """Features of earlier levels that this one's firing implies: P(parent | this) - P(parent) largest first."""

    def gain(part: Together, met: Met) -> Score:
        score = _implied(met.count, met.own) - met.others / max(part.n_tokens, 1)
        return np.where(level[met.other] < level[met.row + part.first], score, 0)

    return _best(together, gain, k)


def children(together: Together, level: Int[np.ndarray, " f"], k: int) -> Related:
    """Features of later levels whose firing implies this one's: P(this | child) - P(this) largest first."""

    def gain(part: Together, met: Met) -> Score:
        score = _implied(met.count, met.others) - met.own / max(part.n_tokens, 1)
        return np.where(level[met.other] > level[met.row + part.first], score, 0)

    return _best(together, gain, k)


@dataclass(frozen=True, slots=True)
class Met:
    """Pairs of a block's feature (its row) and any other that fire together often enough, with all firings of each."""

    row: Int[np.ndarray, " m"]
    other: Int[np.ndarray, " m"]
    count: Int[np.ndarray, " m"]
    own: Int[np.ndarray, " m"]
    others: Int[np.ndarray, " m"]

    @staticmethod
    def of(together: Together) -> "Met":
        """Ordered by row, then by feature."""
        cell = np.flatnonzero(together.counts >= MIN_TOGETHER)
        row, other = np.divmod(cell, together.counts.shape[1])
        count = together.counts.reshape(-1)[cell].astype(np.int64)
        return Met(row, other, count, together.firings[together.first + row], together.firings[other])


def _implied(count: Int[np.ndarray, " m"], firings: Int[np.ndarray, " m"]) -> Score:
    """Share of the firings that coincide, one hit and one miss added, or rare features would come first by luck."""
    share: Score = (count + 1.0) / (firings + 2.0)
    return share


def _best(together: Together, score_of: Callable[[Together, Met], Score], k: int) -> Related:
    """The k others of highest positive score of every feature of the block, a few features at a time."""
    n_rows, width = together.counts.shape
    step = max(1, RELATED_CELLS // width)
    parts = [together.part(slice(first, min(first + step, n_rows))) for first in range(0, n_rows, step)]
    found = [_best_of_part(part, score_of, k) for part in parts]
    return Related(*(np.concatenate([getattr(part, name) for part in found]) for name in Related.__slots__))


def _best_of_part(part: Together, score_of: Callable[[Together, Met], Score], k: int) -> Related:
    out, met = _nothing(part.counts.shape[0], k), Met.of(part)
    if k == 0:
        return out
    score = score_of(part, met)
    positive = np.flatnonzero(score > 0)
    chosen, slot = largest_in_rows(met.row[positive], score[positive].astype(np.float32), k)
    best = positive[chosen]
    at, count, own, others = (met.row[best], slot), met.count[best], met.own[best], met.others[best]
    out.ids[at], out.count[at], out.score[at] = met.other[best], count, score[best]
    out.given_feature[at], out.given_other[at] = count / own, count / others
    out.lift[at] = count * float(part.n_tokens) / (own * others.astype(np.float64))
    return out


def _nothing(n_rows: int, k: int) -> Related:
    ids, count = np.full((n_rows, k), -1, np.int64), np.zeros((n_rows, k), np.int64)
    return Related(ids, count, *(np.zeros((n_rows, k), np.float32) for _ in range(4)))
