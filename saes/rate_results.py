"""Rate against distortion of many dictionaries on the same activations."""

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from interp.errors import ArtifactError
from interp.storage import read_json, write_json
from saes.rate_curve import RateCurve, RatePoint

SCHEMA_VERSION = 1
Kind = Literal["trained", "baseline", "null"]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class RateArm:
    """A dictionary, its curve, and what it costs and tells with its chosen quantiser in place.

    `arm` is its architecture, which one line is drawn of; `name` the dictionary's own. probing: held-out accuracy of k
    features, the mean over concepts, by k; detection_auc: the median over features, of `detection_measured` of them.
    None is what was not measured. Units: nats per token.
    """

    arm: str
    name: str
    kind: Kind
    path: str
    curve: RateCurve
    ce_delta: float | None = None
    ce_delta_interval: Interval | None = None
    kl: float | None = None
    probing: Mapping[str, float] = field(default_factory=dict)
    detection_auc: float | None = None
    detection_measured: float | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """An architecture at a given number of bits: explained variance and ΔCE between its nearest dictionaries.

    None where all of its dictionaries take more, or all take fewer. nearest: the dictionary whose chosen bits are
    nearest in ratio; what it tells is told of it, at its own bits.
    """

    arm: str
    bits: float
    explained_variance: float | None
    ce_delta: float | None
    nearest: str


@dataclass(frozen=True, slots=True)
class RateDistortion:
    """All arms. gaussian: (bits, explained variance) that no code could exceed, were the activations Gaussian."""

    arms: tuple[RateArm, ...]
    gaussian: tuple[tuple[float, float], ...]
    provenance: Mapping[str, Any]
    schema_version: int = SCHEMA_VERSION

    def names(self) -> tuple[str, ...]:
        """Arms in the order in which they were given, each once."""
        return tuple(dict.fromkeys(arm.arm for arm in self.arms))

    def of(self, name: str) -> tuple[RateArm, ...]:
        """The dictionaries of an arm."""
        return tuple(arm for arm in self.arms if arm.arm == name)

    def hull(self, name: str) -> tuple[tuple[RateArm, RatePoint], ...]:
        """The points of an arm that none of its own beats: each explains more than every cheaper one."""
        points = [(arm, point) for arm in self.of(name) for point in arm.curve.points]
        best: list[tuple[RateArm, RatePoint]] = []
        for arm, point in sorted(points, key=lambda pair: (pair[1].bits, -pair[1].explained_variance)):
            if not best or point.explained_variance > best[-1][1].explained_variance:
                best.append((arm, point))
        return tuple(best)

    def matched(self, bits: float) -> tuple[Matched, ...]:
        """Every arm at so many bits, by straight lines between its points."""
        found = []
        for name in self.names():
            own = self.of(name)
            explained = [(point.bits, point.explained_variance) for _, point in self.hull(name)]
            costs = [(arm.curve.chosen.bits, arm.ce_delta) for arm in own if arm.ce_delta is not None]
            nearest = min(own, key=lambda arm: ratio(arm.curve.chosen.bits, bits))
            found.append(Matched(name, bits, between(explained, bits), between(costs, bits), nearest.name))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": "rate_distortion", **asdict(self)}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "RateDistortion":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another version.
        """
        held = read_json(path)
        if not isinstance(held, dict) or held.pop("kind", None) != "rate_distortion":
            raise ArtifactError(f"{path}: holds no rates of dictionaries; run `interp rate` again")
        if held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: is of version {held.get('schema_version')}; run `interp rate` again")
        try:
            return TypeAdapter(RateDistortion).validate_python(held)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ArtifactError(f"{path}: {where} is damaged; run `interp rate` again") from None

    def _repr_html_(self) -> str:
        """Each dictionary with its chosen quantiser."""
        rows = "".join(
            f"<tr><td>{html.escape(arm.name)}</td><td>{arm.curve.chosen.bits:.1f}</td>"
            f"<td>{arm.curve.chosen.explained_variance:.4f}</td><td>{_cost(arm.ce_delta)}</td></tr>"
            for arm in self.arms
        )
        return f"<table><tr><th></th><th>bits per token</th><th>EV</th><th>ΔCE, nats</th></tr>{rows}</table>"


def between(points: list[tuple[float, float]], at: float) -> float | None:
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


def _cost(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.4f}"
