"""One figure of a concept benchmark, and figures of several dictionaries put together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from probes.intervals import Score

FEATURES, RANDOM, ORACLE, DENSE, MAJORITY = "features", "random features", "oracle", "dense probe", "majority"
BAG_OF_TOKENS = "bag of tokens"
WITHOUT_FEATURES = (ORACLE, DENSE, MAJORITY, BAG_OF_TOKENS)
"""Arms that do not look at the dictionary: they are the same for all of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: what was measured of which concept, in which arm, with how many features (None: not by features)."""

    measure: str
    concept: str
    quantity: str
    arm: str
    n_features: int | None
    score: Score

    @property
    def key(self) -> tuple[str, str, str, str, int | None]:
        """What makes figures of several dictionaries the same figure."""
        return self.measure, self.concept, self.quantity, self.arm, self.n_features

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        names = ("measure", "concept", "quantity", "arm", "n_features")
        interval = None if self.score.interval is None else list(self.score.interval)
        value = self.score.value if self.score.defined else None
        return dict(zip(names, self.key, strict=True)) | {"value": value, "interval": interval}


@dataclass(frozen=True, slots=True)
class Pooled:
    """A figure over dictionaries of one config and several seeds.

    `sd` is over seeds, None for one. `interval` is the first one's, over words: what another seed does not show.
    """

    measure: str
    concept: str
    quantity: str
    arm: str
    n_features: int | None
    mean: float
    sd: float | None
    seeds: tuple[float, ...]
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        plain = {name: getattr(self, name) for name in ("measure", "concept", "quantity", "arm", "n_features", "sd")}
        values = [value if math.isfinite(value) else None for value in self.seeds]
        mean = self.mean if math.isfinite(self.mean) else None
        return plain | {"mean": mean, "seeds": values, "interval": self.interval and list(self.interval)}


def pool(runs: Sequence[Sequence[Row]]) -> list[Pooled]:
    """Mean and standard deviation of each figure over runs; the mean is undefined where one of them is."""
    found: dict[tuple[str, str, str, str, int | None], list[Row]] = {}
    for rows in runs:
        for row in rows:
            found.setdefault(row.key, []).append(row)
    return [_pooled(rows) for rows in found.values()]


def _pooled(rows: Sequence[Row]) -> Pooled:
    values = tuple(row.score.value for row in rows)
    finite = all(math.isfinite(value) for value in values)
    sd = stdev(values) if finite and len(values) > 1 and rows[0].arm not in WITHOUT_FEATURES else None
    return Pooled(*rows[0].key, fmean(values) if finite else math.nan, sd, values, rows[0].score.interval)
