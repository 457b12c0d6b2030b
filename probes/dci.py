"""DCI: which codes boosted trees need for each factor.

Axes: n examples, c codes, f factors.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from sklearn.ensemble import GradientBoostingClassifier

N_TREES = 20
"""Boosting rounds, each with a tree for every class (one for two classes)."""


@dataclass(frozen=True, slots=True)
class DCI:
    """importance (c, f) sums to one for every factor, to zero for one that no tree could split.

    informativeness: share of held-out labels that are predicted rightly, mean over factors; baseline: the same of the
    commonest class.
    """

    importance: Float[ndarray, "c f"]
    informativeness: float
    baseline: float

    @property
    def disentanglement(self) -> float:
        """1 where every code matters to one factor alone; codes count by how much they matter.

        NaN with fewer than two factors.
        """
        return _concentration(self.importance)

    @property
    def completeness(self) -> float:
        """1 where every factor needs one code alone. NaN with fewer than two codes."""
        return _concentration(self.importance.T)


def fit_dci(
    codes: Float[ndarray, "n c"],
    labels: Int[ndarray, "n f"],
    train: Bool[ndarray, " n"],
    *,
    n_trees: int = N_TREES,
    seed: int = 0,
) -> DCI:
    """Boosted trees of depth 3 on the examples of `train`, one ensemble for each factor, scored on the others.

    Source: Eastwood & Williams 2018 (A Framework for the Quantitative Evaluation of Disentangled Representations),
    with gradient-boosted trees as Locatello et al. 2019.
    """
    importance, right, common = np.zeros((codes.shape[1], labels.shape[1])), [], []
    for factor, label in enumerate(labels.T):
        told, asked = label[train], label[~train]
        commonest = np.bincount(told).argmax()
        common.append(float((asked == commonest).mean()))
        if np.unique(told).size < 2:
            right.append(common[-1])
            continue
        trees = GradientBoostingClassifier(n_estimators=n_trees, max_depth=3, random_state=seed)
        trees.fit(codes[train], told)
        importance[:, factor] = trees.feature_importances_
        right.append(float((trees.predict(codes[~train]) == asked).mean()))
    return DCI(importance, float(np.mean(right)), float(np.mean(common)))


def _concentration(importance: Float[ndarray, "r k"]) -> float:
    """1 - entropy of each row in units of its largest, rows weighing what they sum to."""
    weight, n = importance.sum(1), importance.shape[1]
    if n < 2 or weight.sum() == 0:
        return math.nan
    held = weight > 0
    share = importance[held] / weight[held, None]
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return float(weight[held] @ (1 + (share * logs).sum(1) / np.log(n)) / weight.sum())
