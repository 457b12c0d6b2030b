"""Intervals from random halves of the clusters, for figures that equal values would mislead.

A bootstrap draws clusters twice, and neighbours and bins take equal values for structure. Halves hold no value twice.

Axes: n examples.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from probes.intervals import Score

_NORMAL = 1.959964


def random_halves(clusters: Int[ndarray, " n"], n_halves: int, *, seed: int = 0) -> list[Bool[ndarray, " n"]]:
    """Which examples are in each of some random halves of the clusters."""
    _, member = np.unique(clusters, return_inverse=True)
    draw, n_clusters = np.random.default_rng(seed), int(member.max()) + 1
    return [np.isin(member, draw.permutation(n_clusters)[: (n_clusters + 1) // 2]) for _ in range(n_halves)]


def half_sample_score(value: float, halves: Sequence[float]) -> Score:
    """A figure with its 95% interval: the spread over halves is the standard error of the whole.

    Halves on which it is not defined are left out; no interval if those are most.
    Source: the delete-d jackknife with d = n / 2 (Shao & Wu 1989), whose factor is one.
    """
    held = [half for half in halves if math.isfinite(half)]
    if not math.isfinite(value) or len(held) < max(2, len(halves) / 2):
        return Score(value)
    error = _NORMAL * float(np.std(held, ddof=1))
    return Score(value, (value - error, value + error))
