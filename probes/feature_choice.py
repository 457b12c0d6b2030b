"""Which features belong to a concept, and which ones chance would give.

Axes: n examples, d width of the activations, f features, c classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from probes.concept_activations import FeatureActivations

_NEIGHBOURS = 10


def by_mean_difference(
    features: FeatureActivations, y: Bool[ndarray, " n"], train: Int[ndarray, " m"], *, signed: bool = False
) -> Float[Tensor, " f"]:
    """How far apart a feature's mean is where the answer is yes and where it is no, on the training examples.

    `signed`: positive only where it is higher for yes.
    """
    no, yes = features.class_means(_groups(y, train), 2)
    return torch.sub(yes, no) if signed else torch.abs(yes - no)


def by_attribution(
    features: FeatureActivations, y: Bool[ndarray, " n"], train: Int[ndarray, " m"], direction: Float[ndarray, " d"]
) -> Float[Tensor, " f"]:
    """How much of the difference between yes and no along a probe's direction a feature brings.

    Source: Karvonen et al. 2025 (SAEBench, arXiv 2503.09532), features for SCR and TPP: probe weight times decoder row
    times mean difference.
    """
    no, yes = features.class_means(_groups(y, train), 2)
    along = features.directions(range(features.dictionary.d_sae)).double() @ torch.as_tensor(direction)
    return torch.mul(yes - no, along)


def by_class_spread(
    features: FeatureActivations, label: Int[ndarray, " n"], train: Int[ndarray, " m"], n_classes: int
) -> Float[Tensor, " f"]:
    """Variance of a feature's mean over any number of classes; for two classes the order of the mean difference."""
    groups = np.full(label.shape, -1)
    groups[train] = label[train]
    present = [index for index in range(n_classes) if (groups == index).any()]
    return features.class_means(groups, n_classes)[present].var(0, correction=0)


def top_features(score: Float[Tensor, " f"], n: int) -> list[int]:
    """The n features of highest positive score, ties by number; fewer where fewer have one."""
    order = torch.argsort(score, descending=True, stable=True)[:n]
    chosen: list[int] = order[score[order] > 0].tolist()
    return chosen


def matched_random(density: Float[Tensor, " f"], chosen: Sequence[int], *, seed: int) -> list[int]:
    """For each chosen feature another one that fires about as often, drawn from its neighbours by density.

    Features that never fire are not drawn while others are left.
    """
    draw = np.random.default_rng(seed)
    taken, drawn = set(chosen), []
    alive = (density > 0).numpy()
    for feature in chosen:
        free = np.array([index for index in range(density.shape[0]) if index not in taken])
        if free.size == 0:
            break
        distance = np.abs(density.numpy()[free] - float(density[feature])) + 2.0 * ~alive[free]
        nearest = free[np.argsort(distance, kind="stable")[:_NEIGHBOURS]]
        drawn.append(int(draw.choice(nearest)))
        taken.add(drawn[-1])
    return drawn


def _groups(y: Bool[ndarray, " n"], train: Int[ndarray, " m"]) -> Int[ndarray, " n"]:
    groups = np.full(y.shape, -1)
    groups[train] = y[train]
    return groups
