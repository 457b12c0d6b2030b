"""How much of a dictionary is found again by another that was trained from another seed.

Two features are likened by the cosine of their decoder directions, by the correlation of their activations and by the
Jaccard index of the tokens on which they fire. Nulls: as many random directions; the other's firings with its tokens in
random order.

Axes: f features of one dictionary, g of the other, c features of a block, n tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy import sparse

from interp.errors import ShapeError
from saes.one_to_one import CANDIDATES, Candidates, one_to_one

MIN_FIRINGS = 10
"""Tokens on which a feature must fire to be compared: of fewer, chance alone makes twins."""
BLOCK = 512
BINS = 20
Firings: TypeAlias = sparse.csr_matrix
"""Activations of n tokens (rows) and all features of a dictionary (columns)."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like two dictionaries are by one measure; 1 is the same, and order does not matter.

    mean_max: mean over features of the best the other has, the two directions averaged. The rest is of pairs matched
    one to one, as many as the smaller dictionary has features; what is left without a partner counts as 0. histogram
    has equal bins from 0 to 1.
    """

    mean_max: float
    matched_mean: float
    share_above_07: float
    share_above_09: float
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stability:
    """Two dictionaries compared over the features of each that fire on the same n tokens at least MIN_FIRINGS times."""

    n_tokens: int
    n_features: tuple[int, int]
    cosine: Likeness
    cosine_null: Likeness
    correlation: Likeness
    correlation_null: Likeness
    jaccard: Likeness
    jaccard_null: Likeness


def stability(
    directions: tuple[Float[np.ndarray, "f d"], Float[np.ndarray, "g d"]],
    firings: tuple[Firings, Firings],
    *,
    seed: int = 0,
) -> Stability | None:
    """Compare two dictionaries by their directions and by their activations on the same tokens; `seed` is the nulls'.

    Memory: blocks of 512 features against all of the other. None if one of them has no feature that fires enough.

    Raises: ShapeError if the two saw different numbers of tokens.
    """
    one, two = (matrix.tocsc() for matrix in firings)
    if one.shape[0] != two.shape[0]:
        raise ShapeError(f"got firings on {one.shape[0]} and {two.shape[0]} tokens; expected the same tokens")
    alive = [np.flatnonzero(matrix.getnnz(axis=0) >= MIN_FIRINGS) for matrix in (one, two)]
    if not all(len(ids) for ids in alive):
        return None
    rows = [_unit(x[ids]) for x, ids in zip(directions, alive, strict=True)]
    a, b = one[:, alive[0]], two[:, alive[1]]
    draw = np.random.default_rng(seed)
    random_rows = _unit(draw.standard_normal(rows[1].shape).astype(np.float32))
    shuffled = b[draw.permutation(b.shape[0])]
    return Stability(
        n_tokens=a.shape[0],
        n_features=(len(alive[0]), len(alive[1])),
        cosine=likeness(cosine_blocks(*rows), len(alive[1])),
        cosine_null=likeness(cosine_blocks(rows[0], random_rows), len(alive[1])),
        correlation=likeness(correlation_blocks(a, b), len(alive[1])),
        correlation_null=likeness(correlation_blocks(a, shuffled), len(alive[1])),
        jaccard=likeness(jaccard_blocks(a, b), len(alive[1])),
        jaccard_null=likeness(jaccard_blocks(a, shuffled), len(alive[1])),
    )


def likeness(blocks: Iterator[Float[np.ndarray, "c g"]], n_columns: int) -> Likeness:
    """Sum up a matrix of likenesses that comes in blocks of rows.

    One-to-one pairs are sought among each feature's CANDIDATES nearest; of dictionaries no larger the search is whole.
    """
    found: list[Candidates] = []
    best_rows: list[np.ndarray] = []
    best_columns = np.full(n_columns, -np.inf)
    for block in blocks:
        found.append(Candidates.of(block, CANDIDATES))
        best_rows.append(block.max(axis=1))
        np.maximum(best_columns, block.max(axis=0), out=best_columns)
    candidates = Candidates.joined(found)
    best = np.concatenate(best_rows)
    values = np.sort(one_to_one(candidates, n_columns).value)[::-1]
    # Pairs beyond the smaller dictionary are between a feature and nothing.
    values = np.clip(values[: min(len(best), n_columns)], 0.0, 1.0)
    return Likeness(
        mean_max=float((best.mean() + best_columns.mean()) / 2),
        matched_mean=float(values.mean()),
        share_above_07=float((values > 0.7).mean()),
        share_above_09=float((values > 0.9).mean()),
        histogram=tuple(np.histogram(values, bins=BINS, range=(0.0, 1.0))[0].tolist()),
    )


def cosine_blocks(a: Float[np.ndarray, "f d"], b: Float[np.ndarray, "g d"]) -> Iterator[Float[np.ndarray, "c g"]]:
    """Cosines of unit rows."""
    for first in range(0, a.shape[0], BLOCK):
        yield a[first : first + BLOCK] @ b.T


def correlation_blocks(a: sparse.csc_matrix, b: sparse.csc_matrix) -> Iterator[Float[np.ndarray, "c g"]]:
    """Pearson correlations of activations over all tokens, those on which neither fires included."""
    mean_a, spread_a = _moments(a)
    mean_b, spread_b = _moments(b)
    for first in range(0, a.shape[1], BLOCK):
        part = slice(first, first + BLOCK)
        together = (a[:, part].T @ b).toarray() / a.shape[0]
        yield (together - np.outer(mean_a[part], mean_b)) / np.outer(spread_a[part], spread_b)


def jaccard_blocks(a: sparse.csc_matrix, b: sparse.csc_matrix) -> Iterator[Float[np.ndarray, "c g"]]:
    """Tokens on which both fire, as a share of those on which either does."""
    fires_a, fires_b = (_fires(matrix) for matrix in (a, b))
    n_a, n_b = fires_a.getnnz(axis=0), fires_b.getnnz(axis=0)
    for first in range(0, a.shape[1], BLOCK):
        part = slice(first, first + BLOCK)
        both = (fires_a[:, part].T @ fires_b).toarray()
        yield both / (n_a[part, None] + n_b[None, :] - both)


def _fires(matrix: sparse.csc_matrix) -> sparse.csc_matrix:
    ones = np.ones(matrix.nnz, dtype=np.float32)
    return sparse.csc_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def _moments(matrix: sparse.csc_matrix) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Mean and standard deviation of each column; a feature that fires equally on all tokens correlates with none."""
    n = matrix.shape[0]
    mean = np.asarray(matrix.sum(axis=0)).ravel() / n
    square = np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel() / n
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    return mean, np.where(spread > 0, spread, np.inf)


def _unit(x: Float[np.ndarray, "f d"]) -> Float[np.ndarray, "f d"]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norm > 0, norm, 1.0))
