"""k-sparse probes of any number of classes on a dictionary's features, beside as many others that fire as often.

Axes: n places of the data, m examples of the task, f features, k chosen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from probes.feature_choice import by_class_spread, matched_random, top_features
from probes.linear import CS, fit_logistic_path
from probes.probe_activations import FeatureInputs
from probes.probe_tasks import Inner, ProbeTask

KS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class SparseFit:
    """Which held-out answers k features get right, the ones chosen for the task and as many that fire as often.

    Shapes: right, random_right, one for each held-out example; features, random_features, at most k numbers.
    """

    k: int
    features: tuple[int, ...]
    random_features: tuple[int, ...]
    right: Float[ndarray, " m"]
    random_right: Float[ndarray, " m"]


def fit_sparse(
    inputs: FeatureInputs,
    task: ProbeTask,
    inner: Inner,
    *,
    ks: Sequence[int] = KS,
    cs: Sequence[float] = CS,
    seed: int = 0,
) -> list[SparseFit]:
    """Logistic regression on the k features whose class means spread most over the training examples.

    Of two classes that is the order of the mean difference (see `probes.sparse_probing`, which asks one class against
    the rest).
    Source: Gurnee et al. 2023 (arXiv 2305.01610), with features by class means.
    """
    features, n_classes = inputs.features, len(task.classes)
    best = top_features(by_class_spread(features, task.y, task.train, n_classes), max(ks))
    trained = np.zeros(task.y.shape, dtype=bool)
    trained[task.train] = True
    other = matched_random(features.density(trained), best, seed=seed)

    def right(chosen: Sequence[int]) -> Float[ndarray, " m"]:
        x = features.columns(chosen).numpy()
        fit = fit_logistic_path(x[task.train], task.y[task.train], inner, n_classes=n_classes, cs=cs)
        return fit.probe.right(x[task.test], task.y[task.test])

    return [
        SparseFit(k, tuple(best[:k]), tuple(other[:k]), right(best[:k]), right(other[:k])) for k in ks if k <= len(best)
    ]
