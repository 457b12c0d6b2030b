"""Rate against distortion of many dictionaries on the same activations."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from interp.errors import ArtifactError
from interp.storage import read_json, write_json
from saes.rate_arms import (
    MERITS,
    RateArm,
    SeedGroup,
    Spread,
    between,
    by_seed,
    frontier_line,
    groups_of,
    hull_line,
    nearest_of,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Matched:
    """An architecture at a given number of bits, over seeds: explained variance and ΔCE between its dictionaries.

    None where a seed's dictionaries all take more, or all take fewer. nearest: the dictionaries of the frontier whose
    chosen bits are nearest in ratio, one for each seed; nearest_bits and `merits` (see MERITS) are theirs.
    """

    arm: str
    bits: float
    explained_variance: Spread | None
    ce_delta: Spread | None
    nearest: tuple[str, ...]
    nearest_bits: Spread
    merits: Mapping[str, Spread | None]


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

    def groups(self) -> tuple[SeedGroup, ...]:
        """The dictionaries, all seeds of one together."""
        return groups_of(self.arms)

    def matched(self, bits: float) -> tuple[Matched, ...]:
        """Every arm at so many bits: by straight lines between the points of each seed, then over the seeds."""
        return tuple(_matched(name, bits, by_seed(self.of(name))) for name in self.names())

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
        """Each dictionary with its chosen quantiser, the mean over seeds."""
        rows = "".join(
            f"<tr><td>{html.escape(group.name)}</td><td>{group.bits:.1f}</td><td>{group.explained_variance:.4f}</td>"
            f"<td>{written(group.spread(lambda arm: arm.ce_delta), '+.4f')}</td></tr>"
            for group in self.groups()
        )
        return f"<table><tr><th></th><th>bits per token</th><th>EV</th><th>ΔCE, nats</th></tr>{rows}</table>"


def _matched(name: str, bits: float, seeds: Sequence[Sequence[RateArm]]) -> Matched:
    nearest = [nearest_of(own, bits) for own in seeds]
    at = Spread.of(arm.curve.chosen.bits for arm in nearest)
    assert at is not None, "a dictionary always has chosen bits"
    return Matched(
        arm=name,
        bits=bits,
        explained_variance=Spread.of(between(hull_line(own), bits) for own in seeds),
        ce_delta=Spread.of(between(frontier_line(own, lambda arm: arm.ce_delta), bits) for own in seeds),
        nearest=tuple(dict.fromkeys(arm.name for arm in nearest)),
        nearest_bits=at,
        merits={merit: Spread.of(value(arm) for arm in nearest) for merit, value in MERITS.items()},
    )


def written(value: Spread | None, form: str) -> str:
    """The mean, and ± the standard deviation where there are several seeds."""
    if value is None:
        return "–"
    unsigned = form.replace("+", "")
    return format(value.mean, form) + ("" if value.sd is None else f" ± {value.sd:{unsigned}}")
