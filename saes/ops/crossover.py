"""From which share of active features on the dense step is faster than the sparse one, as measured.

d width of the activations, f features.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crossing:
    """At this size both paths take the same time where this share of the features is active."""

    d: int
    f: int
    share: float


TABLES: dict[str, tuple[Crossing, ...]] = {
    "cpu": (Crossing(512, 8192, 0.073),),
    "cuda": (Crossing(512, 8192, 0.073),),
}


def crossover_share(device_type: str, d: int, f: int) -> float:
    """The share at the measured size nearest to this one, by the ratios of both sizes."""
    return min(TABLES[device_type], key=lambda at: abs(math.log(at.d / d)) + abs(math.log(at.f / f))).share
