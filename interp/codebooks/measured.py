"""Figures as they are written, where they were measured."""

import math
from collections.abc import Sequence

import numpy as np

UNMEASURED = "not measured"


def told(value: float | None, form: str = ".3f") -> str:
    """A figure, unless it is None or NaN."""
    return UNMEASURED if value is None or math.isnan(value) else f"{value:{form}}"


def middle(values: Sequence[float | None], form: str) -> str:
    """The median and the middle 95%, if all were measured."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return UNMEASURED
    low, median, high = np.quantile(known, (0.025, 0.5, 0.975)).tolist()
    return f"{median:{form}} ({low:{form}} to {high:{form}})"
