"""Dictionaries measured for rate and distortion: one of them, the same one from several seeds, the best of many."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal, TypeVar

from saes.rate_curve import RateCurve, RatePoint

T = TypeVar("T")
Kind = Literal["trained", "baseline", "null"]
Interval = tuple[float, float]
Line = list[tuple[float, float]]
"""(bits, what they buy), by bits."""


@dataclass(frozen=True, slots=True)
class RateArm:
    """A dictionary, its curve, and what it costs and tells with its chosen quantiser in place.

    `arm` is its architecture, which one line is drawn of; `name` the dictionary's own, the same for all of its seeds
    and for no dictionary that differs in more (saes.rate_names). probing: held-out accuracy of k features, the mean
    over concepts, by k; detection_auc: the median over features, of `detection_measured` of them. None is what was not
    measured. Units: nats per token.
    """

    arm: str
    name: str
    kind: Kind
    path: str
    curve: RateCurve
    seed: int = 0
    ce_delta: float | None = None
    ce_delta_interval: Interval | None = None
    kl: float | None = None
    probing: Mapping[str, float] = field(default_factory=dict)
    detection_auc: float | None = None
    detection_measured: float | None = None


Value = Callable[[RateArm], float | None]
MERITS: Mapping[str, Value] = {
    "dead_share": lambda arm: arm.curve.dead_share,
    "probe_k1": lambda arm: arm.probing.get("1"),
    "probe_k5": lambda arm: arm.probing.get("5"),
    "detection_auc": lambda arm: arm.detection_auc,
    "detection_measured": lambda arm: arm.detection_measured,
}
"""What is told of a dictionary beside its bits, explained variance and ΔCE."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A value over seeds: its mean and standard deviation (n - 1), which one seed does not have."""

    mean: float
    sd: float | None
    n: int

    @staticmethod
    def of(values: Iterable[float | None]) -> "Spread | None":
        """None where any seed lacks it."""
        held = list(values)
        known = [value for value in held if value is not None]
        if not known or len(known) < len(held):
            return None
        return Spread(fmean(known), stdev(known) if len(known) > 1 else None, len(known))


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """The same dictionary from several seeds."""

    arm: str
    name: str
    kind: Kind
    members: tuple[RateArm, ...]

    def spread(self, value: Value) -> Spread | None:
        """A value over the seeds."""
        return Spread.of(value(arm) for arm in self.members)

    @property
    def bits(self) -> float:
        """Of the chosen quantisers, the mean."""
        return fmean(arm.curve.chosen.bits for arm in self.members)

    @property
    def explained_variance(self) -> float:
        """With the chosen quantisers, the mean."""
        return fmean(arm.curve.chosen.explained_variance for arm in self.members)


def by_seed(arms: Sequence[RateArm]) -> list[tuple[RateArm, ...]]:
    """The dictionaries of each seed."""
    seeds = dict.fromkeys(arm.seed for arm in arms)
    return [tuple(arm for arm in arms if arm.seed == seed) for seed in seeds]


def groups_of(arms: Sequence[RateArm]) -> tuple[SeedGroup, ...]:
    """Dictionaries that differ in their seed alone, together."""
    keys = dict.fromkeys((arm.arm, arm.name, arm.kind) for arm in arms)
    held = {key: tuple(arm for arm in arms if (arm.arm, arm.name, arm.kind) == key) for key in keys}
    return tuple(SeedGroup(*key, members) for key, members in held.items())


def unbeaten(things: Iterable[T], point_of: Callable[[T], tuple[float, float]]) -> tuple[T, ...]:
    """Those that explain more than everything that takes no more bits, by bits.

    point_of: a thing's bits and explained variance.
    """
    best: list[T] = []
    for thing in sorted(things, key=lambda thing: (point_of(thing)[0], -point_of(thing)[1])):
        if not best or point_of(thing)[1] > point_of(best[-1])[1]:
            best.append(thing)
    return tuple(best)


def hull_of(arms: Sequence[RateArm]) -> tuple[tuple[RateArm, RatePoint], ...]:
    """The points, over quantisers, that none of these dictionaries beats."""
    points = [(arm, point) for arm in arms for point in arm.curve.points]
    return unbeaten(points, lambda pair: (pair[1].bits, pair[1].explained_variance))


def frontier_of(arms: Sequence[RateArm]) -> tuple[RateArm, ...]:
    """The dictionaries that none of these beats with its chosen quantiser."""
    return unbeaten(arms, lambda arm: (arm.curve.chosen.bits, arm.curve.chosen.explained_variance))


def hull_line(arms: Sequence[RateArm]) -> Line:
    """Bits and explained variance along the hull."""
    return [(point.bits, point.explained_variance) for _, point in hull_of(arms)]


def frontier_line(arms: Sequence[RateArm], value: Value) -> Line:
    """Bits and a value along the frontier, as far as it was measured."""
    told = [(arm.curve.chosen.bits, value(arm)) for arm in frontier_of(arms)]
    return [(bits, held) for bits, held in told if held is not None]


def nearest_of(arms: Sequence[RateArm], bits: float) -> RateArm:
    """The dictionary on the frontier whose chosen bits are nearest in ratio."""
    return min(frontier_of(arms), key=lambda arm: ratio(arm.curve.chosen.bits, bits))


def mean_line(lines: Sequence[Line]) -> list[tuple[float, Spread]]:
    """The mean of the seeds' lines and how they spread, wherever one of them has a point and all of them reach."""
    if not all(lines):
        return []
    low, high = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
    at = sorted({bits for line in lines for bits, _ in line if low <= bits <= high})
    told = [(bits, Spread.of(between(line, bits) for line in lines)) for bits in at]
    return [(bits, spread) for bits, spread in told if spread is not None]


def between(points: Line, at: float) -> float | None:
    """The straight line between the points next to `at`; None outside of them."""
    ordered = sorted(points)
    if not ordered or not ordered[0][0] <= at <= ordered[-1][0]:
        return None
    for (x0, y0), (x1, y1) in pairwise(ordered):
        if x0 <= at <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return ordered[0][1]


def ratio(a: float, b: float) -> float:
    """How far apart two positive numbers are as a ratio, whichever is larger."""
    low, high = sorted((max(a, 1e-9), max(b, 1e-9)))
    return high / low
