"""Figures with intervals that resample words, entities or documents, never single tokens.

Axes: n examples, c clusters.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

N_DRAWS = 400
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Score:
    """A figure and its 95% interval; NaN where it is not defined, no interval where there is one cluster."""

    value: float
    interval: tuple[float, float] | None = None

    @property
    def defined(self) -> bool:
        return math.isfinite(self.value)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        interval = None if self.interval is None else list(self.interval)
        return {"value": self.value if self.defined else None, "interval": interval}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Score":
        """The inverse of `to_json`."""
        value, interval = values["value"], values["interval"]
        return Score(math.nan if value is None else float(value), interval and (interval[0], interval[1]))


Statistic = Callable[[Float[ndarray, " n"]], float]
"""A figure as a function of the examples' weights."""


def cluster_interval(statistic: Statistic, clusters: Int[ndarray, " n"], *, seed: int = 0) -> Score:
    """The figure with all examples weighing one, and its interval over draws of whole clusters.

    Draws on which the figure is not defined are left out.
    Source: the cluster bootstrap (Davison & Hinkley 1997, section 3.8), percentile interval.
    """
    value = statistic(np.ones(clusters.shape[0]))
    _, member = np.unique(clusters, return_inverse=True)
    n_clusters = int(member.max()) + 1 if member.size else 0
    if n_clusters < 2 or not math.isfinite(value):
        return Score(value)
    draw = np.random.default_rng(seed)
    even = np.full(n_clusters, 1 / n_clusters)
    draws = draw.multinomial(n_clusters, even, size=N_DRAWS).astype(np.float64)
    drawn = np.array([statistic(weights[member]) for weights in draws])
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size < N_DRAWS / 2:
        return Score(value)
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]).tolist()
    return Score(value, (low, high))


def mean_of(values: Float[ndarray, " n"]) -> Statistic:
    """The weighted mean of a figure per example."""

    def statistic(weights: Float[ndarray, " n"]) -> float:
        total = float(weights.sum())
        return float(weights @ values) / total if total > 0 else math.nan

    return statistic
