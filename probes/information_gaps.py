"""MIG, modularity and SAP: how far one code stands out for a factor, and one factor for a code.

Axes: n examples, c codes, f factors.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def information_gap(information: Float[ndarray, "c f"], entropies: Float[ndarray, " f"]) -> float:
    """MIG: by how much the best code of a factor leads the second, as a share of the factor's entropy; mean.

    A single code leads by all that it has.
    Source: Chen et al. 2018 (Isolating Sources of Disentanglement), equation 6.
    """
    return float((_lead(information) / entropies).mean())


def modularity(information: Float[ndarray, "c f"]) -> float:
    """1 where every code has information of one factor alone, 0 where of all alike; mean over codes that have any.

    NaN with fewer than two factors, or if no code has any information.
    Source: Ridgeway & Mozer 2018 (Learning Deep Disentangled Embeddings), equation 2.
    """
    n_factors = information.shape[1]
    held = information[information.max(1) > 0]
    if n_factors < 2 or held.shape[0] == 0:
        return math.nan
    best = held.max(1) ** 2
    return float((1 - ((held**2).sum(1) - best) / (best * (n_factors - 1))).mean())


def attribute_gap(codes: Float[ndarray, "n c"], labels: Int[ndarray, "n f"]) -> float:
    """SAP: by how much the best single code predicts a factor better than the second; mean over factors.

    A prediction is scored by the share of the code's variance that lies between classes, which does not depend on how
    classes are numbered. Where the mean of a code is linear in the label it is the squared correlation.
    Source: Kumar et al. 2018 (Variational Inference of Disentangled Latent Concepts), section 3, who take the squared
    correlation of ordered factors.
    """
    return float(_lead(explained_by_classes(codes, labels)).mean())


def explained_by_classes(codes: Float[ndarray, "n c"], labels: Int[ndarray, "n f"]) -> Float[ndarray, "c f"]:
    """Share of each code's variance that lies between the classes of each factor; 0 of a code that does not vary."""
    apart = np.asarray(codes, dtype=np.float64) - codes.mean(0)
    total = (apart**2).sum(0)
    found = np.zeros((codes.shape[1], labels.shape[1]))
    for factor, label in enumerate(labels.T):
        sizes = np.bincount(label)
        sums = np.zeros((sizes.shape[0], codes.shape[1]))
        np.add.at(sums, label, apart)
        between = (sums**2 / np.maximum(sizes, 1)[:, None]).sum(0)
        found[:, factor] = np.divide(between, total, out=np.zeros_like(total), where=total > 0)
    return found


def _lead(scores: Float[ndarray, "c f"]) -> Float[ndarray, " f"]:
    if scores.shape[0] == 1:
        return np.asarray(scores[0])
    second, first = np.partition(scores, -2, axis=0)[-2:]
    return np.asarray(first - second)
