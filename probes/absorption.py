"""Feature absorption: a general feature that falls silent where a specific one speaks for it.

Axes: n examples, d width, f features, m main features.
Source: Chanin et al. 2024 (arXiv 2409.14507) and SAEBench (arXiv 2503.09532).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from probes.benchmark_rows import FEATURES, Row
from probes.concept_activations import FeatureActivations
from probes.concept_tasks import BinaryTask
from probes.feature_choice import by_mean_difference, top_features
from probes.intervals import cluster_interval, mean_of
from probes.logistic import LogisticProbe, fit_logistic

MEASURE = "absorption"
_MOST_MAIN = 10


@dataclass(frozen=True, slots=True)
class AbsorptionParameters:
    """How much a main feature must bring, and what counts as absorbing.

    f1_gain: one more main feature is taken if F1 rises by more. most_absorbers: how many (None: all). least_cosine: of
    an absorber's direction with the probe's. least_share: of the probe's projection that absorbers must bring.
    """

    f1_gain: float
    most_absorbers: int | None
    least_cosine: float
    least_share: float


PARAMETERS = {
    # As the authors' code has it, and as the table of the paper says.
    "code": AbsorptionParameters(f1_gain=0.03, most_absorbers=3, least_cosine=0.1, least_share=0.4),
    "paper": AbsorptionParameters(f1_gain=0.03, most_absorbers=None, least_cosine=-1.0, least_share=0.0),
}


def absorption_scores(
    projection: Float[Tensor, " n"],
    main: Float[Tensor, " n"],
    others: Float[Tensor, "n f"],
    parameters: AbsorptionParameters,
) -> Float[Tensor, " n"]:
    """Of what the main features leave of the probe's projection, the share that other features bring, per example.

    Shapes: projection (n,) P = x·p; main (n,) m, what the main features add along p; others (n, f) what each other
    feature whose cosine suffices adds. 0 where m ≥ P, where nothing is to be explained (P ≤ 0), nothing absorbs (A ≤ 0)
    or absorbers bring too small a share A / P; 1 where m ≤ 0; else t / (t + m) with t = min(A, P - m).
    """
    positive = others.clamp(min=0)
    if parameters.most_absorbers is not None and positive.shape[1] > parameters.most_absorbers:
        positive = positive.topk(parameters.most_absorbers, dim=1).values
    absorbed = positive.sum(1)
    taken = torch.minimum(absorbed, projection - main)
    partial = taken / (taken + main).clamp(min=1e-12)
    score = torch.where(main <= 0, torch.ones_like(partial), partial)
    share = absorbed / projection.clamp(min=1e-12)
    nothing = (projection <= 0) | (main >= projection) | (absorbed <= 0) | (share < parameters.least_share)
    return torch.where(nothing, torch.zeros_like(score), score)


def main_features(
    task: BinaryTask, features: FeatureActivations, *, f1_gain: float, most: int = _MOST_MAIN
) -> list[int]:
    """The best feature for the concept, and more of them while each raises the probe's F1 on training examples enough.

    Features that speak for the opposite are none of the concept's.

    Source: feature splitting in Chanin et al. 2024, section 4.
    """
    order = top_features(by_mean_difference(features, task.y, task.train, signed=True), most)
    values, y = features.columns(order).numpy()[task.train], task.answers("train")
    kept, best = order[:1], _f1(values[:, :1], y)
    for k in range(2, len(order) + 1):
        if (found := _f1(values[:, :k], y)) <= best + f1_gain:
            break
        kept, best = order[:k], found
    return kept


def absorption(
    task: BinaryTask,
    features: FeatureActivations,
    *,
    parameters: Mapping[str, AbsorptionParameters] = PARAMETERS,
    probe: LogisticProbe | None = None,
    seed: int = 0,
) -> list[Row]:
    """Mean absorption over held-out examples that are of the concept and that the dense probe recognises.

    Beside the mean, the share of examples absorbed whole (1); both for each of the named parameters.
    """
    probe = fit_logistic(task.x("train"), task.answers("train")) if probe is None else probe
    known = task.test[task.answers("test") & probe.predict(task.x("test"))]
    rows = []
    for name, held in parameters.items():
        scores = _scores(task, features, probe, known, held).numpy()
        words = task.data.word[known]
        for quantity, values in (("absorption", scores), ("absorbed whole", (scores >= 1).astype(np.float64))):
            score = cluster_interval(mean_of(values), words, seed=seed)
            concept = f"{task.data.name}: {task.name}"
            rows.append(Row(MEASURE, concept, f"{quantity} ({name})", FEATURES, None, score))
    return rows


def _scores(
    task: BinaryTask,
    features: FeatureActivations,
    probe: LogisticProbe,
    rows: np.ndarray,
    parameters: AbsorptionParameters,
) -> Float[Tensor, " n"]:
    unit = torch.as_tensor(probe.weight / max(np.linalg.norm(probe.weight), 1e-12))
    directions = features.directions(range(features.dictionary.d_sae)).double()
    along = directions @ unit
    cosine = along / torch.linalg.vector_norm(directions, dim=1).clamp(min=1e-12)
    main = main_features(task, features, f1_gain=parameters.f1_gain)
    is_main = torch.zeros(along.shape[0], dtype=torch.bool)
    is_main[main] = True
    # Features that point away only take from the projection: none of them absorbs.
    others = (~is_main & (cosine >= parameters.least_cosine) & (along > 0)).nonzero()[:, 0].tolist()
    at = torch.as_tensor(rows)
    x = task.data.acts[at].double()
    brought = features.columns(main)[at].double() @ along[main]
    by_others = features.columns(others)[at].double() * along[others]
    return absorption_scores(x @ unit, brought, by_others, parameters)


def _f1(values: Float[ndarray, "n k"], y: Bool[ndarray, " n"]) -> float:
    predicted = fit_logistic(values, y).predict(values)
    return float(2 * (predicted & y).sum() / max(int(predicted.sum() + y.sum()), 1))
