"""Numbers as short as a page needs them."""

from typing import Any

import numpy as np


def five_digits(values: np.ndarray) -> list[Any]:
    """Nested lists with five significant digits; NaN and infinity become None."""
    return rounded(values, 5)


def rounded(values: np.ndarray, digits: int) -> list[Any]:
    """Nested lists with so many significant digits; NaN and infinity become None."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    size = np.where(finite & (array != 0), np.abs(array), 1.0)
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(size)))
    nested = (np.round(np.where(finite, array, 0.0) * scale) / scale).astype(object)
    nested[~finite] = None
    found: list[Any] = nested.tolist()
    return found
