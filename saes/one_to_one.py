"""Pairs of features of two dictionaries, none used twice, whose likenesses add up to the most.

Axes: f features of one, g of the other, c of a block, m candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

CANDIDATES = 32
"""Partners that a feature may be given: its nearest. A search among all takes minutes at 16,384 features."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The nearest features of each: columns and likenesses."""

    column: Int[np.ndarray, "f m"]
    value: Float[np.ndarray, "f m"]

    @staticmethod
    def of(block: Float[np.ndarray, "c g"], n: int) -> "Candidates":
        """The `n` largest of each row, in no order; all if there are no more."""
        n = min(n, block.shape[1])
        column = np.argpartition(block, block.shape[1] - n, axis=1)[:, -n:]
        return Candidates(column, np.take_along_axis(block, column, axis=1))

    @staticmethod
    def joined(parts: Sequence["Candidates"]) -> "Candidates":
        """Blocks of rows put together."""
        return Candidates(np.concatenate([p.column for p in parts]), np.concatenate([p.value for p in parts]))


@dataclass(frozen=True, slots=True)
class Pairs:
    """The partner of each feature, -1 for none, and how like it is, 0 for none."""

    partner: Int[np.ndarray, " f"]
    value: Float[np.ndarray, " f"]


def one_to_one(candidates: Candidates, n_columns: int) -> Pairs:
    """Match such that the sum of likenesses is as large as possible; likenesses below 0 pair nothing.

    Source: Jonker and Volgenant 1987, in the sparse form of scipy.
    """
    f, m = candidates.column.shape
    rows = np.repeat(np.arange(f), m)
    columns, values = candidates.column.ravel(), candidates.value.ravel().astype(np.float64)
    useful = values > 0
    # Every feature may stay alone, at a likeness of 0: a column of its own. Costs are above 0, which is no edge.
    cost = sparse.csr_matrix(
        (
            np.concatenate([2.0 - values[useful], np.full(f, 2.0)]),
            (np.concatenate([rows[useful], np.arange(f)]), np.concatenate([columns[useful], n_columns + np.arange(f)])),
        ),
        shape=(f, n_columns + f),
    )
    row, column = min_weight_full_bipartite_matching(cost)
    partner = np.empty(f, dtype=np.int64)
    partner[row] = np.where(column < n_columns, column, -1)
    value = np.zeros(f)
    value[row] = 2.0 - np.asarray(cost[row, column]).ravel()
    return Pairs(partner, value)
