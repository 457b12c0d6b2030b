"""Rows of different length in one flat array, worked on all at once.

Axes: n entries, r rows, m chosen entries.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

Array = Shaped[np.ndarray, "..."]


def ranges(first: Int[np.ndarray, " r"], length: Int[np.ndarray, " r"]) -> Int[np.ndarray, " n"]:
    """first[0], first[0] + 1, ... (length[0] of them), first[1], ..."""
    before = np.cumsum(length) - length
    found: np.ndarray = np.arange(int(length.sum())) + np.repeat(first - before, length)
    return found


def run_starts(key: Int[np.ndarray, " n"] | Float[np.ndarray, " n"]) -> Int[np.ndarray, " r"]:
    """Where runs of equal entries begin."""
    changes = np.ones(key.shape[0], dtype=bool)
    changes[1:] = key[1:] != key[:-1]
    return np.flatnonzero(changes)


def count_keys(key: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Distinct keys ascending, and how often each stands there."""
    ordered = np.sort(key)
    starts = run_starts(ordered)
    return ordered[starts], np.diff(np.append(starts, key.shape[0]))


def order_bits(value: Array) -> Array:
    """Positive float32 or small non-negative integers as 32 bits in the same order."""
    return value.view(np.uint32) if value.dtype == np.float32 else value.astype(np.uint32)


def largest_in_rows(
    row: Int[np.ndarray, " n"], value: Array, k: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Indices of the k largest entries of each row, by (row, value descending, first occurrence), and their rank.

    Sorts bare keys, not indices: several times faster; only entries at least as large as a row's k-th are then ordered.
    """
    key = (row.astype(np.uint64) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - order_bits(value).astype(np.uint64))
    chosen = np.flatnonzero(key <= _kth_key(key, row, k)[row]) if row.size else np.zeros(0, np.int64)
    order = chosen[np.argsort(key[chosen], kind="stable")]
    starts = run_starts(row[order])
    rank = np.arange(order.shape[0]) - np.repeat(starts, np.diff(np.append(starts, order.shape[0])))
    return order[rank < k], rank[rank < k]


def _kth_key(key: Array, row: Int[np.ndarray, " n"], k: int) -> Array:
    counts = np.bincount(row)
    last = np.cumsum(counts) - 1
    kth = np.minimum(last - counts + k, last)
    found: np.ndarray = np.sort(key)[np.maximum(kth, 0)]
    return found


def segment_sums(values: Array, starts: Int[np.ndarray, " r"]) -> Array:
    """Sum of each run; `starts` as `run_starts` gives them."""
    return np.add.reduceat(values, starts) if starts.size else values[:0]
