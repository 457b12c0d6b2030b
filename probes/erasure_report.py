"""How well erasers do what they promise: on the examples they were fitted on, on others, against a nonlinear probe.

Axes: n places, d width.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from probes.erasure import (
    AffineEraser,
    cross_covariance,
    fit_inlp,
    fit_leace,
    fit_mean_projection,
    mean_square_change,
    one_hot,
)
from probes.intervals import Score, cluster_interval, mean_of
from probes.linear import CS, fit_logistic_path
from probes.nonlinear import fit_nonlinear
from probes.probe_activations import ProbeData
from probes.probe_results import ErasureRow
from probes.probe_tasks import Inner, ProbeTask

NOTHING, MEAN_PROJECTION, INLP, LEACE = "nothing", "mean projection", "INLP", "LEACE"


def iter_erasures(
    x: Float[ndarray, "n d"],
    data: ProbeData,
    task: ProbeTask,
    inner: Inner,
    *,
    site: str,
    cs: Sequence[float] = CS,
    seed: int = 0,
) -> Iterator[ErasureRow]:
    """Fit each eraser on the training side, train probes anew on what is left, and test them on both sides.

    A probe fitted before erasure may only have lost the one direction that it knew. First comes the same with nothing
    taken out.
    """
    train, y, n_classes = x[task.train], task.y[task.train], len(task.classes)
    fits: dict[str, Callable[[], AffineEraser]] = {
        NOTHING: lambda: AffineEraser(np.zeros(x.shape[1]), np.eye(x.shape[1])),
        MEAN_PROJECTION: lambda: fit_mean_projection(train, y, n_classes=n_classes),
        INLP: lambda: fit_inlp(train, y, inner, n_classes=n_classes, cs=cs),
        LEACE: lambda: fit_leace(train, one_hot(y, n_classes)),
    }
    for method, fit in fits.items():
        yield _row(method, fit(), np.asarray(x, dtype=np.float64), data, task, inner, site, cs, seed)


def _row(
    method: str,
    eraser: AffineEraser,
    x: Float[ndarray, "n d"],
    data: ProbeData,
    task: ProbeTask,
    inner: Inner,
    site: str,
    cs: Sequence[float],
    seed: int,
) -> ErasureRow:
    train, test = eraser(x[task.train]), eraser(x[task.test])
    y, truth, n_classes = task.y[task.train], task.y[task.test], len(task.classes)

    def score(right: Float[ndarray, " _"], rows: ndarray) -> Score:
        return cluster_interval(mean_of(right), data.document[rows], seed=seed)

    probe = fit_logistic_path(train, y, inner, n_classes=n_classes, cs=cs).probe
    network = fit_nonlinear(train, y, inner, n_classes=n_classes, seed=seed)
    return ErasureRow(
        attribute=task.attribute,
        site=site,
        method=method,
        n_removed=eraser.n_removed,
        fitted=score(probe.right(train, y), task.train),
        held_out=score(probe.right(test, truth), task.test),
        nonlinear=score(network.right(test, truth), task.test),
        mean_square_change=mean_square_change(eraser, x[task.train]),
        cross_covariance=cross_covariance(train, y, n_classes),
        held_out_cross_covariance=cross_covariance(test, truth, n_classes),
    )
