"""InfoMEC: modularity, explicitness and compactness of codes, in shares of information.

Axes: n examples, c codes, f factors.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from probes.half_samples import random_halves
from probes.mutual_information import N_NEIGHBOURS, entropy, neighbour_information

PRUNED_BELOW = 1 / 20
"""Codes whose range is at most this share of the largest one are no part of InfoM and InfoC."""
GATE = 0.05
"""InfoE under which InfoM and InfoC mean nothing: ratios of information that is not there."""
PENALTIES = (1e-2, 1.0, 1e2, 1e4)
"""Inverse strengths of the penalty that InfoE's regressions choose among, by examples that neither fits nor scores."""
_MOST_STEPS = 300
_INNER_SEED = 1
# What the base rate keeps of every prediction: an example of a class that was never seen costs finitely much.
_BASE_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class InfoMEC:
    """nmi (c, f): information by nearest neighbours as a share of the factor's entropy; active (c,): kept by range.

    losses, base_losses (n, f): held-out cross-entropy of each example in nats, from the codes and from the base rate.
    """

    nmi: Float[ndarray, "c f"]
    active: Bool[ndarray, " c"]
    losses: Float[ndarray, "n f"]
    base_losses: Float[ndarray, "n f"]

    @property
    def modularity(self) -> float:
        """InfoM: 1 where every code tells of one factor alone. NaN with one factor, or if no code tells anything."""
        return info_modularity(self.nmi[self.active])

    @property
    def compactness(self) -> float:
        """InfoC: 1 where one code alone tells of each factor. NaN with one code, or if none tells anything."""
        return info_modularity(self.nmi[self.active].T)

    @property
    def explicitness(self) -> float:
        """InfoE: the share of the base rate's loss that a linear reading of the codes takes away; mean over factors."""
        return info_explicitness(self.losses, self.base_losses, np.ones(self.losses.shape[0]))

    @property
    def is_gated(self) -> bool:
        """Whether InfoM and InfoC mean nothing, since the factors cannot be read from the codes."""
        return not self.explicitness >= GATE


def fit_infomec(
    codes: Float[ndarray, "n c"],
    labels: Int[ndarray, "n f"],
    clusters: Int[ndarray, " n"],
    *,
    n_neighbours: int = N_NEIGHBOURS,
    seed: int = 0,
) -> InfoMEC:
    """InfoMEC with every example scored by regressions on the other half of the clusters.

    Source: Hsu et al. 2023 (Disentanglement via Latent Quantization), section 3. Theirs scores InfoE on what it fitted
    and does not regularise, which gives 1 whenever codes outnumber examples; ours is held out.
    """
    losses, base = zip(*(_cross_fitted(codes, label, clusters, seed) for label in labels.T), strict=True)
    active = active_codes(codes)
    return InfoMEC(_shares(codes, labels, active, n_neighbours, seed), active, np.stack(losses, 1), np.stack(base, 1))


def active_codes(codes: Float[ndarray, "n c"]) -> Bool[ndarray, " c"]:
    """Codes whose range is more than PRUNED_BELOW of the largest."""
    reach = codes.max(0) - codes.min(0)
    return np.asarray(reach > PRUNED_BELOW * reach.max(initial=0.0))


def _shares(
    codes: Float[ndarray, "n c"], labels: Int[ndarray, "n f"], active: Bool[ndarray, " c"], k: int, seed: int
) -> Float[ndarray, "c f"]:
    found = np.zeros((codes.shape[1], labels.shape[1]))
    found[active] = neighbour_information(codes[:, active], labels, n_neighbours=k, seed=seed)
    return np.asarray(found / np.array([entropy(label) for label in labels.T]))


def info_modularity(nmi: Float[ndarray, "r k"]) -> float:
    """How far the rows hold to one column each: 1 if to one alone, 0 if to all alike; rows of zeros are left out."""
    n = nmi.shape[1]
    held = nmi[nmi.sum(1) > 0]
    if n < 2 or held.shape[0] == 0:
        return math.nan
    return float(((held.max(1) / held.sum(1)).mean() - 1 / n) / (1 - 1 / n))


def info_explicitness(
    losses: Float[ndarray, "n f"], base_losses: Float[ndarray, "n f"], weights: Float[ndarray, " n"]
) -> float:
    """1 - loss / base rate's loss for each factor; mean."""
    told, null = weights @ losses, weights @ base_losses
    return float((1 - told / null).mean()) if bool((null > 0).all()) else math.nan


def _cross_fitted(
    codes: Float[ndarray, "n c"], label: Int[ndarray, " n"], clusters: Int[ndarray, " n"], seed: int
) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    losses, base = np.zeros(label.shape[0]), np.zeros(label.shape[0])
    n_classes = int(label.max()) + 1
    half = random_halves(clusters, 1, seed=seed)[0]
    for side in (half, ~half):
        fitted, asked = np.flatnonzero(side), np.flatnonzero(~side)
        rate = (np.bincount(label[fitted], minlength=n_classes) + 1) / (fitted.size + n_classes)
        base[asked] = -np.log(rate[label[asked]])
        penalty = _best_penalty(codes, label, fitted, clusters, rate)
        losses[asked] = _losses(codes, label, fitted, asked, rate, penalty)
    return losses, base


def _best_penalty(
    codes: Float[ndarray, "n c"],
    label: Int[ndarray, " n"],
    rows: Int[ndarray, " m"],
    clusters: Int[ndarray, " n"],
    rate: Float[ndarray, " k"],
) -> float | None:
    """The inverse strength that loses least on clusters of the rows that it was not fitted to; None: the base rate."""
    half = random_halves(clusters[rows], 1, seed=_INNER_SEED)[0]
    sides = ((rows[half], rows[~half]), (rows[~half], rows[half]))
    tried: Sequence[float | None] = (None, *PENALTIES)
    costs = [sum(float(_losses(codes, label, *side, rate, one).sum()) for side in sides) for one in tried]
    return tried[int(np.argmin(costs))]


def _losses(
    codes: Float[ndarray, "n c"],
    label: Int[ndarray, " n"],
    fitted: Int[ndarray, " m"],
    asked: Int[ndarray, " k"],
    rate: Float[ndarray, " y"],
    penalty: float | None,
) -> Float[ndarray, " k"]:
    if penalty is None or np.unique(label[fitted]).size < 2:
        return np.asarray(-np.log(rate[label[asked]]))
    mean, sd = codes[fitted].mean(0), codes[fitted].std(0)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0)
    model = LogisticRegression(C=penalty, max_iter=_MOST_STEPS)
    with warnings.catch_warnings():
        # Where classes can be separated the least penalty's optimum is far out; no score needs the last steps there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((codes[fitted] - mean) * scale, label[fitted])
    told = np.zeros((asked.size, rate.size))
    told[:, model.classes_] = model.predict_proba((codes[asked] - mean) * scale)
    mixed = (1 - _BASE_SHARE) * told + _BASE_SHARE * rate
    return np.asarray(-np.log(mixed[np.arange(asked.size), label[asked]]))
