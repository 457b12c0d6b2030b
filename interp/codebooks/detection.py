"""Whether what is shown of a code tells where it is active on text that is not shown; beside neurons.

Axes: n tokens, v vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from interp.codebooks.precision import halves
from interp.codebooks.record import CodeRecord

N_WINDOWS, REACH = 24, 8
LEAST_FIRINGS = 10


@dataclass(frozen=True, slots=True)
class Detection:
    """A drawn unit. auc: of a detector that scores a token by the share of its occurrences in the shown windows at
    which the unit fires, on documents of which nothing was shown; NaN where it fires too seldom, or always."""

    unit: str
    share: float
    auc: float


def detection_auc(
    record: CodeRecord, active: Bool[ndarray, " n"], *, seed: int, n_windows: int = N_WINDOWS, reach: int = REACH
) -> float:
    """Windows are drawn from even documents around tokens at which the unit fires; judged on odd ones.

    Source: the detector of saes.feature_pass.detection, with windows drawn among all firings, since a code is either
    active or not.
    """
    fit, judge = halves(record)
    fires = np.flatnonzero(active & fit)
    if len(fires) < LEAST_FIRINGS or (active & judge).sum() < LEAST_FIRINGS:
        return float("nan")
    drawn = np.random.default_rng(seed).permutation(fires)[:n_windows]
    near = (drawn[:, None] + np.arange(-reach, reach + 1)).clip(0, len(record) - 1)
    near = np.unique(near[(record.row[near] == record.row[drawn][:, None]) & fit[near]])
    size = int(record.token_ids.max()) + 1
    shown = np.bincount(record.token_ids[near], minlength=size)
    fired = np.bincount(record.token_ids[near[active[near]]], minlength=size)
    score = (fired / np.maximum(shown, 1))[record.token_ids[judge]]
    return rank_auc(score, active[judge])


def rank_auc(score: Float[ndarray, " n"], positive: Bool[ndarray, " n"]) -> float:
    """Chance that a positive scores above a negative, ties counting half; NaN without a pair of them."""
    if positive.all() or not positive.any():
        return float("nan")
    _, member = np.unique(score, return_inverse=True)
    up, down = (np.bincount(member[mask], minlength=member.max() + 1) for mask in (positive, ~positive))
    below = np.concatenate([[0], np.cumsum(down)[:-1]])
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def draw_codes(record: CodeRecord, n: int, *, seed: int, least: int = 2 * LEAST_FIRINGS) -> list[tuple[int, int]]:
    """Codes drawn by seed among all that are active at least so often, as (codebook, code)."""
    alive = [(b, int(c)) for b, book in enumerate(record.books) for c in np.flatnonzero(book.counts() >= least)]
    order = np.random.default_rng(seed).permutation(len(alive))[:n]
    return [alive[index] for index in order]


def code_detections(record: CodeRecord, n: int, *, seed: int) -> tuple[Detection, ...]:
    """Drawn codes, each with its AUC."""
    found = []
    for b, code in draw_codes(record, n, seed=seed):
        active = (record.books[b].ids == code).any(1)
        found.append(
            Detection(str(record.books[b].code(code)), float(active.mean()), detection_auc(record, active, seed=seed))
        )
    return tuple(found)


def neuron_detections(
    record: CodeRecord, acts: dict[str, Float[ndarray, "n m"]], shares: list[float], *, seed: int
) -> tuple[Detection, ...]:
    """As many drawn neurons, each cut at a threshold at which it fires as often as one of the codes."""
    pairs = [(hook, m) for hook, x in acts.items() for m in range(x.shape[1])]
    order = np.random.default_rng(seed).permutation(len(pairs))[: len(shares)]
    drawn = [(*pairs[index], acts[pairs[index][0]][:, pairs[index][1]]) for index in order]
    return cut_neurons(record, drawn, shares, seed=seed)


def cut_neurons(
    record: CodeRecord, drawn: Sequence[tuple[str, int, Float[ndarray, " n"]]], shares: list[float], *, seed: int
) -> tuple[Detection, ...]:
    """Neurons as (hook, neuron, activations), each cut where it fires as often as one of the codes."""
    found = []
    for (hook, m, values), share in zip(drawn, shares, strict=True):
        n_firing = max(1, round(share * len(values)))
        active = values >= np.partition(values, -n_firing)[-n_firing]
        found.append(Detection(f"{hook} {m}", float(active.mean()), detection_auc(record, active, seed=seed)))
    return tuple(found)
