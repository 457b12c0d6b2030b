"""Probes that are fitted without a search: differences of class means, plain and in the data's own metric.

Axes: n examples, d inputs, c classes.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.covariance import ledoit_wolf

from interp.errors import ShapeError
from probes.linear import LinearProbe


def fit_mean_difference(x: Float[ndarray, "n d"], y: Int[ndarray, " n"], *, n_classes: int) -> LinearProbe:
    """The nearest class mean. Of two classes that is θ = μ₊ - μ₋, cut half-way between them.

    Raises: ShapeError if a class has no example.
    Source: Marks & Tegmark 2023 (arXiv 2310.06824), mass-mean probe, on centred activations.
    """
    means, centre = _means(x, y, n_classes)
    return _from_means(means - centre, centre, means - centre)


def fit_in_distribution(x: Float[ndarray, "n d"], y: Int[ndarray, " n"], *, n_classes: int) -> LinearProbe:
    """The nearest class mean in the metric of the covariance within classes: of two classes Σ⁻¹θ.

    The covariance is shrunk (Ledoit & Wolf 2004), since examples may be fewer than dimensions.

    Raises: ShapeError if a class has no example.
    Source: Marks & Tegmark 2023 (arXiv 2310.06824), section 5, in-distribution probe; Fisher's discriminant.
    """
    means, centre = _means(x, y, n_classes)
    covariance, _ = ledoit_wolf(np.asarray(x, dtype=np.float64) - means[y], assume_centered=True)
    return _from_means(means - centre, centre, np.linalg.lstsq(covariance, (means - centre).T, rcond=None)[0].T)


def _means(
    x: Float[ndarray, "n d"], y: Int[ndarray, " n"], n_classes: int
) -> tuple[Float[ndarray, "c d"], Float[ndarray, " d"]]:
    """Class means, and the mean of those."""
    counts = np.bincount(y, minlength=n_classes)
    if (counts == 0).any():
        raise ShapeError(f"got no example of class {int(counts.argmin())}; a mean needs one; drop the class")
    means = np.stack([x[y == index].mean(0, dtype=np.float64) for index in range(n_classes)])
    return means, means.mean(0)


def _from_means(
    means: Float[ndarray, "c d"], centre: Float[ndarray, " d"], weight: Float[ndarray, "c d"]
) -> LinearProbe:
    """Highest score where (x - centre)·weight_c - ½ mean_c·weight_c is; means are centred."""
    bias = -0.5 * np.einsum("cd,cd->c", means, weight) - weight @ centre
    return LinearProbe(weight, bias)
