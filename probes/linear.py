"""Logistic probes of any number of classes, their strength of regularisation chosen on documents left out for it.

Axes: n examples, d inputs, c classes.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import csr_array, issparse
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from interp.errors import DataError, NonFiniteError, ShapeError
from probes.probe_activations import Inputs
from probes.probe_tasks import Inner

CS: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""The regularisation path: inverse strengths of the L2 penalty on standardised inputs, strong to weak."""
_MOST_STEPS = 2000
_TOLERANCE = 1e-4
_ABSENT = -30.0


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A score for each class, linear in the inputs as they are; the class of highest score is the answer.

    Shapes: weight (c, d), bias (c,).
    """

    weight: Float[ndarray, "c d"]
    bias: Float[ndarray, " c"]

    def score(self, x: Inputs) -> Float[ndarray, "n c"]:
        """Scores; of a logistic probe unnormalised log-probabilities."""
        return np.asarray(np.asarray(x @ self.weight.T) + self.bias, dtype=np.float64)

    def log_probabilities(self, x: Inputs) -> Float[ndarray, "n c"]:
        """Units: nats."""
        return np.asarray(log_softmax(self.score(x), axis=1))

    def predict(self, x: Inputs) -> Int[ndarray, " n"]:
        """Ties go to the first class."""
        return np.asarray(self.score(x).argmax(1))

    def right(self, x: Inputs, y: Int[ndarray, " n"]) -> Float[ndarray, " n"]:
        """1 where the answer is right."""
        return np.asarray(self.predict(x) == y, dtype=np.float64)

    def directions(self) -> Float[ndarray, "c d"]:
        """What raises each class against the mean of all: (c, d); of two classes one is the other's opposite."""
        return np.asarray(self.weight - self.weight.mean(0))


@dataclass(frozen=True, slots=True)
class PathFit:
    """A probe fitted on all training examples, and how each strength did on those left out to choose by.

    Units: validation in nats per example, one for each of `cs`; c is the strength that was chosen.
    """

    probe: LinearProbe
    c: float
    cs: tuple[float, ...]
    validation_nats: tuple[float, ...]


def fit_logistic_path(
    x: Inputs,
    y: Int[ndarray, " n"],
    inner: Inner,
    *,
    n_classes: int,
    cs: Sequence[float] = CS,
    standardise: bool = True,
) -> PathFit:
    """Fit along the path on one part, choose by the loss on the other, fit again on everything.

    `standardise`: off for counts, where a rare token would weigh more than a common one.

    Raises: ShapeError if no example is left to choose by, or none to fit, or the two parts share examples; DataError
    for a label that is none of 0 to n_classes - 1; NonFiniteError for NaN or infinity in x.
    """
    _check_examples(x, y, inner, n_classes)
    if not inner.validate.any() or not inner.fit.any():
        raise ShapeError(f"got {y.size} examples of too few documents or words to choose by; give more labelled text")
    losses = [
        validation_loss(probe, x[inner.validate], y[inner.validate])
        for probe in iter_path(x[inner.fit], y[inner.fit], n_classes=n_classes, cs=cs, standardise=standardise)
    ]
    best = int(np.argmin(losses))
    *_, probe = iter_path(x, y, n_classes=n_classes, cs=cs[: best + 1], standardise=standardise)
    return PathFit(probe, cs[best], tuple(cs), tuple(losses))


def _check_examples(x: Inputs, y: Int[ndarray, " n"], inner: Inner, n_classes: int) -> None:
    lengths = {"x": x.shape[0], "y": y.shape[0], "inner.fit": inner.fit.size, "inner.validate": inner.validate.size}
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"got lengths {lengths}; expected one label and one place in each mask for every example")
    if both := int((inner.fit & inner.validate).sum()):
        raise ShapeError(f"got {both} examples in both inner.fit and inner.validate; expected disjoint masks")
    if wrong := [label for label in np.unique(y).tolist() if label not in range(n_classes)]:
        raise DataError(f"y: got label {wrong[0]}; expected 0 to {n_classes - 1}, as n_classes says")
    bad = ~np.isfinite(x.data if issparse(x) else x)
    if bad.any():
        raise NonFiniteError(f"x: got {int(bad.sum())} NaN or infinite inputs; leave out these examples, or check them")


def validation_loss(probe: LinearProbe, x: Inputs, y: Int[ndarray, " n"]) -> float:
    """Units: nats per example."""
    return float(-probe.log_probabilities(x)[np.arange(y.size), y].mean())


def iter_path(
    x: Inputs, y: Int[ndarray, " n"], *, n_classes: int, cs: Sequence[float] = CS, standardise: bool = True
) -> Iterator[LinearProbe]:
    """Logistic regressions with an L2 penalty on standardised inputs, each begun where the one before ended.

    Inputs that do not vary count for nothing. Classes without an example get a score that says never.
    """
    present = np.unique(y)
    if present.size < 2:
        bias = np.full(n_classes, _ABSENT)
        bias[present] = 0.0
        yield from (LinearProbe(np.zeros((n_classes, x.shape[1])), bias) for _ in cs)
        return
    scaling = Standardised.of(x) if standardise else Standardised(np.zeros(x.shape[1]), np.ones(x.shape[1]))
    z = scaling.apply(x)
    model = LogisticRegression(max_iter=_MOST_STEPS, tol=_TOLERANCE, warm_start=True)
    for c in cs:
        with warnings.catch_warnings():
            # A few examples of many classes are what an online code begins with; they are classes all the same.
            warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
            model.set_params(C=c).fit(z, y)
        weight, bias = _two_sided(model.coef_, model.intercept_)
        yield scaling.undo(_placed(weight, present, n_classes, 0.0), _placed(bias, present, n_classes, _ABSENT))


def _two_sided(weight: ndarray, bias: ndarray) -> tuple[Float[ndarray, "c d"], Float[ndarray, " c"]]:
    """Of two classes the solver gives the difference alone."""
    if weight.shape[0] > 1:
        return weight, bias
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2


def _placed(values: ndarray, present: Int[ndarray, " p"], n_classes: int, absent: float) -> ndarray:
    out = np.full((n_classes, *values.shape[1:]), absent)
    out[present] = values
    return out


@dataclass(frozen=True, slots=True)
class Standardised:
    """Inputs at mean 0 and variance 1; sparse ones keep their zeros and are only scaled.

    Shapes: mean, scale (d,); scale is 0 for inputs that do not vary.
    """

    mean: Float[ndarray, " d"]
    scale: Float[ndarray, " d"]

    @staticmethod
    def of(x: Inputs) -> "Standardised":
        """Mean and scale of these examples."""
        if issparse(x):
            square, mean = np.asarray(x.multiply(x).mean(0)).ravel(), np.asarray(x.mean(0)).ravel()
            sd = np.sqrt(np.maximum(square - mean**2, 0.0))
            return Standardised(np.zeros_like(mean), _inverse(sd, mean))
        mean, sd = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        return Standardised(mean, _inverse(sd, mean))

    def apply(self, x: Inputs) -> Any:
        """Standardised in float64."""
        if issparse(x):
            return csr_array(x.astype(np.float64).multiply(self.scale[None, :]))
        return (x - self.mean) * self.scale

    def undo(self, weight: Float[ndarray, "c d"], bias: Float[ndarray, " c"]) -> LinearProbe:
        """A probe of standardised inputs as one of the inputs themselves."""
        own = weight * self.scale
        return LinearProbe(own, bias - own @ self.mean)


def _inverse(sd: Float[ndarray, " d"], mean: Float[ndarray, " d"]) -> Float[ndarray, " d"]:
    varies = sd > 1e-6 * np.maximum(1e-6, np.abs(mean))
    return np.asarray(np.where(varies, 1 / np.where(varies, sd, 1.0), 0.0))
