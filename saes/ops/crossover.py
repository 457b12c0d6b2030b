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


def crossings(shares: dict[int, dict[int, float]]) -> tuple[Crossing, ...]:
    """From shares by d, then by f."""
    return tuple(Crossing(d, f, share) for d, row in shares.items() for f, share in row.items())


# chrt -r 1 python benchmarks/dense_crossover.py --threads 1 --clock cpu --limit 150
# on a shared 2-core Xeon virtual machine with AVX-512, torch 2.13; the machine was busy otherwise. Neighbouring sizes
# differ by up to a third where one of them lies just off a measured share: that much is noise.
CPU_SHARES = {
    64: {1024: 0.33, 4096: 0.49, 8192: 0.46, 16384: 0.42},
    192: {1024: 0.4, 4096: 0.45, 8192: 0.45, 16384: 0.41},
    384: {1024: 0.49, 4096: 0.51, 8192: 0.46, 16384: 0.26},
    512: {1024: 0.42, 4096: 0.51, 8192: 0.41, 16384: 0.21},
    768: {1024: 0.47, 4096: 0.46, 8192: 0.24},
    1024: {1024: 0.47, 4096: 0.4, 8192: 0.24},
    2304: {1024: 0.54},
}

# Not measured: a share that was once found on a processor.
CUDA_SHARES = {512: {8192: 0.073}}

TABLES = {"cpu": crossings(CPU_SHARES), "cuda": crossings(CUDA_SHARES)}
"""Measured crossings by type of device."""


def crossover_share(device_type: str, d: int, f: int) -> float:
    """The share at the measured size nearest to this one, by the ratios of both sizes."""
    return min(TABLES[device_type], key=lambda at: abs(math.log(at.d / d)) + abs(math.log(at.f / f))).share
