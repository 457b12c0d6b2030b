"""Taking a concept of any number of classes out of activations, and how far that goes.

`probes.projection` has the erasers of one class against another that the concept benchmarks use.

Axes: n examples, d width, c classes, z columns that describe the concept, r removed dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from probes.linear import CS, fit_logistic_path
from probes.probe_tasks import Inner

_RELATIVE_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class AffineEraser:
    """x -> centre + P (x - centre), with P a projection (not always an orthogonal one).

    Shapes: centre (d,), projection (d, d).
    """

    centre: Float[ndarray, " d"]
    projection: Float[ndarray, "d d"]

    def __call__(self, x: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
        """The activations without the concept."""
        return np.asarray(self.centre + (x - self.centre) @ self.projection.T, dtype=np.asarray(x).dtype)

    @property
    def n_removed(self) -> int:
        """Dimensions that are gone."""
        return int(self.projection.shape[0]) - round(float(np.trace(self.projection)))


def fit_mean_projection(x: Float[ndarray, "n d"], y: Int[ndarray, " n"], *, n_classes: int) -> AffineEraser:
    """Orthogonal to all differences of class means: c - 1 dimensions go, and all classes have one mean."""
    x = np.asarray(x, dtype=np.float64)
    means = np.stack([x[y == index].mean(0) for index in range(n_classes)])
    return AffineEraser(x.mean(0), _orthogonal_to((means - means.mean(0)).T))


def fit_leace(x: Float[ndarray, "n d"], z: Float[ndarray, "n z"]) -> AffineEraser:
    """The least change, in mean square, after which no linear probe of z on these examples beats a constant.

    r(x) = μ + P (x - μ), P = I - W⁺ (W Σxz)(W Σxz)⁺ W, W = (Σxx^½)⁺. `z` is one-hot for classes, or any numbers.
    Source: Belrose et al. 2023 (LEACE, arXiv 2306.03819), theorem 4.3.
    """
    x = np.asarray(x, dtype=np.float64)
    mean = x.mean(0)
    centred = x - mean
    cross = centred.T @ (z - z.mean(0)) / x.shape[0]
    whiten, unwhiten = _roots(centred.T @ centred / x.shape[0])
    seen = whiten @ cross
    inside = seen @ np.linalg.pinv(seen, rcond=_RELATIVE_TOLERANCE)
    return AffineEraser(mean, np.eye(x.shape[1]) - unwhiten @ inside @ whiten)


def one_hot(y: Int[ndarray, " n"], n_classes: int) -> Float[ndarray, "n c"]:
    """Classes as columns of zeros and ones."""
    return np.asarray(np.eye(n_classes)[y])


def _roots(covariance: Float[ndarray, "d d"]) -> tuple[Float[ndarray, "d d"], Float[ndarray, "d d"]]:
    """W = Σ^-½ and its inverse, both zero where the data does not vary."""
    values, vectors = np.linalg.eigh(covariance)
    varies = values > values.max() * values.size * np.finfo(np.float64).eps
    root = np.sqrt(np.where(varies, values, 0.0))
    inverse = np.where(varies, 1 / np.where(varies, root, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T, (vectors * root) @ vectors.T


def fit_inlp(
    x: Float[ndarray, "n d"],
    y: Int[ndarray, " n"],
    inner: Inner,
    *,
    n_classes: int,
    rounds: int = 20,
    cs: Sequence[float] = CS,
) -> AffineEraser:
    """Fit a linear probe, project its directions out, and again, until one does no better than the commonest class.

    Of each round c - 1 dimensions go. The strength of regularisation is chosen in the first round.
    Source: Ravfogel et al. 2020 (arXiv 2004.07667), algorithm 1.
    """
    x = np.asarray(x, dtype=np.float64)
    mean, removed = x.mean(0), np.zeros((x.shape[1], 0))
    projection, chosen = np.eye(x.shape[1]), tuple(cs)
    commonest = np.bincount(y).max() / y.size
    for _ in range(rounds):
        fit = fit_logistic_path((x - mean) @ projection, y, inner, n_classes=n_classes, cs=chosen)
        chosen = (fit.c,)
        removed = np.concatenate([removed, projection @ fit.probe.directions().T], axis=1)
        if float((fit.probe.predict((x - mean) @ projection) == y).mean()) <= commonest:
            break
        projection = _orthogonal_to(removed)
    return AffineEraser(mean, projection)


def _orthogonal_to(directions: Float[ndarray, "d r"]) -> Float[ndarray, "d d"]:
    """The orthogonal projection away from the columns."""
    u, values, _ = np.linalg.svd(directions, full_matrices=False)
    basis = u[:, values > max(values.max(initial=0.0), 1e-300) * _RELATIVE_TOLERANCE]
    return np.asarray(np.eye(directions.shape[0]) - basis @ basis.T)


def cross_covariance(x: Float[ndarray, "n d"], y: Int[ndarray, " n"], n_classes: int) -> float:
    """The largest entry, in absolute value, of the covariance between activations and classes."""
    z = one_hot(y, n_classes)
    return float(np.abs((x - x.mean(0)).T @ (z - z.mean(0)) / x.shape[0]).max())


def mean_square_change(eraser: AffineEraser, x: Float[ndarray, "n d"]) -> float:
    """Mean squared distance that the examples are moved by."""
    return float(np.square(eraser(x) - x).sum(1).mean())
