"""Mutual information between codes and labels: by equal-width bins, and by nearest neighbours without bins.

Axes: n examples, c codes (features, neurons, projections), f factors (kinds of labels). Units: nats.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import digamma

N_BINS = 20
N_NEIGHBOURS = 10
# Breaks ties: equal values have no order among neighbours. Far below any difference that means something.
_JITTER = 1e-10


def entropy(labels: Int[ndarray, " n"]) -> float:
    """Entropy of the labels as they are distributed here."""
    share = np.bincount(labels) / max(labels.shape[0], 1)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def binned(codes: Float[ndarray, "n c"], n_bins: int = N_BINS) -> Int[ndarray, "n c"]:
    """Which of `n_bins` equal parts of its code's range each value lies in; a code that does not vary has one bin."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.asarray(np.minimum((codes - low) / width * n_bins, n_bins - 1), dtype=np.int64)


def binned_information(
    codes: Float[ndarray, "n c"], labels: Int[ndarray, "n f"], *, n_bins: int = N_BINS
) -> Float[ndarray, "c f"]:
    """Plug-in mutual information of every code, in bins, with every factor.

    It is biased upwards by about (bins - 1)(classes - 1) / 2n.
    """
    bins = binned(codes, n_bins)
    found = np.zeros((codes.shape[1], labels.shape[1]))
    for factor, label in enumerate(labels.T):
        n_classes = int(label.max()) + 1
        for code, column in enumerate(bins.T):
            joint = np.bincount(column * n_classes + label, minlength=n_bins * n_classes)
            found[code, factor] = _of_table(joint.reshape(n_bins, n_classes))
    return found


def _of_table(counts: Int[ndarray, "r k"]) -> float:
    p = counts / counts.sum()
    apart = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    held = p > 0
    return max(float((p[held] * np.log(p[held] / apart[held])).sum()), 0.0)


def neighbour_information(
    codes: Float[ndarray, "n c"], labels: Int[ndarray, "n f"], *, n_neighbours: int = N_NEIGHBOURS, seed: int = 0
) -> Float[ndarray, "c f"]:
    """Mutual information of every code with every factor by nearest neighbours; never below zero.

    In one dimension neighbours stand beside each other once values are sorted, so that no tree is needed.
    Source: Ross 2014 (Mutual information between discrete and continuous data sets), equation 1.
    """
    draw = np.random.default_rng(seed)
    found = np.zeros((codes.shape[1], labels.shape[1]))
    for code, column in enumerate(codes.T):
        x = np.asarray(column, dtype=np.float64)
        spread = float(x.std())
        if spread == 0:
            continue
        x = x / spread
        x = x + _JITTER * max(1.0, float(np.abs(x).mean())) * draw.standard_normal(x.shape[0])
        for factor, label in enumerate(labels.T):
            found[code, factor] = _ross(x, label, n_neighbours)
    return found


def _ross(x: Float[ndarray, " n"], label: Int[ndarray, " n"], n_neighbours: int) -> float:
    sizes = np.bincount(label)
    # A class of one has no neighbour of its own.
    told = sizes[label] > 1
    x, label = x[told], label[told]
    if x.size == 0:
        return 0.0
    radius, k = np.zeros(x.size), np.zeros(x.size)
    for one in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(label == one)
        k[members] = near = min(n_neighbours, members.size - 1)
        radius[members] = _distance(x[members], near)
    value = digamma(x.size) + (digamma(k) - digamma(sizes[label]) - digamma(_n_nearer(x, radius))).mean()
    return max(float(value), 0.0)


def _n_nearer(x: Float[ndarray, " m"], radius: Float[ndarray, " m"]) -> Int[ndarray, " m"]:
    """How many values, itself among them, are nearer than each one's radius."""
    ordered = np.sort(x)
    first = np.searchsorted(ordered, x - radius, side="left")
    last = np.searchsorted(ordered, x + radius, side="right") - 1
    # The ends of a radius are rounded, differences are not: whoever stands at the end itself is not nearer.
    while (over := (x - ordered[first] >= radius) & (ordered[first] < x)).any():
        first += over
    while (over := (ordered[last] - x >= radius) & (ordered[last] > x)).any():
        last -= over
    return np.asarray(last - first + 1)


def _distance(x: Float[ndarray, " m"], k: int) -> Float[ndarray, " m"]:
    """How far the k-th nearest other value is: the least reach of the k + 1 runs of k + 1 values that hold each."""
    order = np.argsort(x)
    padded = np.concatenate([np.full(k, -np.inf), x[order], np.full(k, np.inf)])
    at = np.arange(x.size) + k
    reach = np.full(x.size, np.inf)
    for before in range(k + 1):
        left, right = padded[at] - padded[at - before], padded[at + k - before] - padded[at]
        reach = np.minimum(reach, np.maximum(left, right))
    found = np.empty(x.size)
    found[order] = reach
    return found
