"""How many directions a cloud of vectors fills: von Neumann entropy and effective rank.

Axes: n vectors, d width.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True, slots=True)
class Geometry:
    """Spectrum and what follows from it, of one cloud, raw or centred.

    spectrum (d,): eigenvalues of ZᵀZ / N with rows of length one, descending; they sum to one. vne in nats, at most
    log min(N, d). effective_rank: of the vectors as they are. participation_ratio: 1 / Σλ².
    """

    spectrum: Float[ndarray, " d"]
    vne: float
    effective_rank: float
    participation_ratio: float


def geometry(x: Float[ndarray, "n d"], *, centred: bool) -> Geometry:
    """Geometry of the rows of x, about their mean if `centred`; rows of length zero have no direction and are left out.

    All figures are NaN if no row is left. Source: see `von_neumann_entropy` and `effective_rank`.
    """
    x = np.asarray(x, dtype=np.float64)
    x = x - x.mean(0) if centred else x
    spectrum = correlation_spectrum(x)
    participation = 1 / float((spectrum**2).sum()) if spectrum.any() else math.nan
    return Geometry(spectrum, entropy_of(spectrum), effective_rank(x), participation)


def correlation_spectrum(x: Float[ndarray, "n d"]) -> Float[ndarray, " d"]:
    """Eigenvalues of the autocorrelation ZᵀZ / N of rows scaled to length one, descending."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    rows = (x / np.where(length > 0, length, 1.0))[length[:, 0] > 0]
    values = np.zeros(x.shape[1])
    if rows.shape[0]:
        singular = np.linalg.svd(rows, compute_uv=False) ** 2 / rows.shape[0]
        values[: singular.shape[0]] = singular
    return values


def von_neumann_entropy(x: Float[ndarray, "n d"]) -> float:
    """-Σ λ log λ over the eigenvalues of the autocorrelation of rows scaled to length one. Units: nats.

    Source: Kim et al. 2023 (VNE: An Effective Method for Improving Deep Representation), equations 1 and 2.
    """
    return entropy_of(correlation_spectrum(x))


def effective_rank(x: Float[ndarray, "n d"]) -> float:
    """exp of the entropy of the singular values as shares of their sum; NaN for a matrix of zeros.

    Source: Roy & Vetterli 2007 (The effective rank), definition 1.
    """
    singular = np.linalg.svd(np.asarray(x, dtype=np.float64), compute_uv=False)
    total = float(singular.sum())
    return math.exp(entropy_of(singular / total)) if total > 0 else math.nan


def entropy_of(shares: Float[ndarray, " d"]) -> float:
    """-Σ p log p in nats; NaN if all are zero."""
    held = shares[shares > 0]
    return float(-(held * np.log(held)).sum()) + 0.0 if held.size else math.nan
