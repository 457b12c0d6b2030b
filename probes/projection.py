"""Taking a concept's own direction out of activations: what taking out features is measured against.

Axes: n examples, d width.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.covariance import ledoit_wolf


@dataclass(frozen=True, slots=True)
class Eraser:
    """An affine map x - (x - centre)·along ⊗ out, the identity on what `along` does not see."""

    centre: Float[ndarray, " d"]
    along: Float[ndarray, " d"]
    out: Float[ndarray, " d"]

    def __call__(self, x: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
        """The activations without the concept."""
        return np.asarray(x - np.outer((x - self.centre) @ self.along, self.out), dtype=x.dtype)

    def moved(self, x: Float[ndarray, "n d"], source: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
        """The activations with another one's component instead of their own."""
        return np.asarray(x + np.outer((source - x) @ self.along, self.out), dtype=x.dtype)


def mean_difference_eraser(x: Float[ndarray, "n d"], y: Bool[ndarray, " n"]) -> Eraser:
    """The orthogonal projection along the difference of means, about their middle."""
    yes, no = x[y].mean(0), x[~y].mean(0)
    length = float(np.linalg.norm(yes - no))
    unit = (yes - no) / length if length > 0 else np.zeros_like(yes)
    return Eraser((yes + no) / 2, unit, unit)


def leace_eraser(x: Float[ndarray, "n d"], y: Bool[ndarray, " n"]) -> Eraser:
    """The least change that leaves the fitted examples without linear correlation with y.

    The covariance is shrunk (Ledoit & Wolf 2004), since examples may be fewer than dimensions; the cross-covariance
    with y is zero afterwards whatever the covariance is.
    Source: Belrose et al. 2023 (LEACE, arXiv 2306.03819), theorem 4.3, for one concept of two classes.
    """
    x = np.asarray(x, dtype=np.float64)
    cross = (x - x.mean(0)).T @ (y - y.mean()) / len(y)
    covariance, _ = ledoit_wolf(x)
    # W⁺ (W c)(W c)⁺ W with W = Σ^-½ is c (Σ⁻¹ c)ᵀ / (cᵀ Σ⁻¹ c).
    weighed = np.linalg.lstsq(covariance, cross, rcond=None)[0]
    norm = float(cross @ weighed)
    along = weighed / norm if norm > 0 else np.zeros_like(weighed)
    return Eraser(x.mean(0), along, cross)
