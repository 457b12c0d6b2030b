"""Grids of effects: what every sweep of interventions gives back.

Axes: as the grid says; p prompts, c clusters of prompts.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from interp.errors import ArtifactError, DataError, ShapeError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
N_DRAWS = 1000
_LEVEL = 0.95
_LISTED = 30
"""Labels that a message lists."""
NEAR_ZERO = 0.05
"""A clean-corrupt difference below this share of the mean absolute one is told as near zero."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a grid: what it runs over, and a label for each place on it."""

    name: str
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, label: str) -> int:
        """Where a label stands.

        Raises: ShapeError for one that the axis does not have.
        """
        if label not in self.labels:
            shown = ", ".join(repr(one) for one in self.labels[:_LISTED])
            more = f" and {len(self) - _LISTED} more" if len(self) > _LISTED else ""
            raise ShapeError(f"{self.name}: got {label!r}; its labels, which are strings, are {shown}{more}")
        return self.labels.index(label)


@dataclass(frozen=True, slots=True)
class EffectGrid:
    """Effects of interventions over any number of axes, with intervals over clusters of prompts.

    Shapes: effect (len(axis), …); interval (2, len(axis), …) or None. method: which intervention, in which direction;
    outcome, units: what was measured. reference: the outcome's means without intervention, by name. n_near_zero:
    prompts whose own denominator was near zero, where the effect is a ratio.
    """

    axes: tuple[Axis, ...]
    effect: Float[ndarray, "..."]
    interval: Float[ndarray, "2 ..."] | None
    method: str
    outcome: str
    units: str
    n_prompts: int
    reference: Mapping[str, float] = field(default_factory=dict)
    n_near_zero: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(len(axis) for axis in self.axes)
        if self.effect.shape != shape or (self.interval is not None and self.interval.shape != (2, *shape)):
            raise ShapeError(f"got effects of shape {self.effect.shape}; the axes say {shape}")

    def at(self, **labels: str) -> float:
        """The effect at one place of every axis, by the axes' names.

        Raises: ShapeError for an axis or a label that the grid does not have.
        """
        names = ", ".join(axis.name for axis in self.axes)
        if unknown := [name for name in labels if name not in {axis.name for axis in self.axes}]:
            raise ShapeError(f"got axis {unknown[0]!r}; this grid's axes are {names}")
        if missing := [axis.name for axis in self.axes if axis.name not in labels]:
            raise ShapeError(f"got no label of axis {missing[0]!r}; expected one of each of this grid's axes: {names}")
        return float(self.effect[tuple(axis.place(labels[axis.name]) for axis in self.axes)])

    def strongest(self, n: int = 10) -> list[tuple[tuple[str, ...], float, tuple[float, float] | None]]:
        """The n places with the largest absolute effect: labels, effect, interval."""
        order = np.argsort(-np.abs(np.nan_to_num(self.effect)), axis=None, kind="stable")[:n]
        found = []
        for index in zip(*np.unravel_index(order, self.effect.shape), strict=True):
            labels = tuple(axis.labels[place] for axis, place in zip(self.axes, index, strict=True))
            low_high = None
            if self.interval is not None:
                low_high = (float(self.interval[(0, *index)]), float(self.interval[(1, *index)]))
            found.append((labels, float(self.effect[index]), low_high))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "effect_grid",
            "axes": [{"name": axis.name, "labels": list(axis.labels)} for axis in self.axes],
            "effect": _plain(self.effect),
            "interval": None if self.interval is None else _plain(self.interval),
            "method": self.method,
            "outcome": self.outcome,
            "units": self.units,
            "n_prompts": self.n_prompts,
            "reference": dict(self.reference),
            "n_near_zero": self.n_near_zero,
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "EffectGrid":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        return EffectGrid.from_json(read_json(path), str(path))

    @staticmethod
    def from_json(held: Mapping[str, Any], where: str = "effects") -> "EffectGrid":
        """From `to_json`'s values.

        Raises: ArtifactError if they are of another kind or version.
        """
        if held.get("kind") != "effect_grid" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{where}: is no effect grid of version {SCHEMA_VERSION}; run the analysis again")
        try:
            axes = tuple(Axis(axis["name"], tuple(axis["labels"])) for axis in held["axes"])
            effect = np.array(held["effect"], dtype=np.float64)
            interval = None if held["interval"] is None else np.array(held["interval"], dtype=np.float64)
            names = ("method", "outcome", "units", "n_prompts", "reference", "n_near_zero", "provenance")
            return EffectGrid(axes, effect, interval, **{name: held[name] for name in names})
        except (KeyError, TypeError, ValueError, json.JSONDecodeError):
            raise ArtifactError(f"{where}: is damaged; run the analysis again") from None

    def _repr_html_(self) -> str:
        """The strongest effects as a table."""
        head = "".join(f"<th>{html.escape(axis.name)}</th>" for axis in self.axes)
        lines = "".join(_line(*found) for found in self.strongest())
        caption = f"{self.method}: {self.outcome}{f' ({self.units})' if self.units else ''}, {self.n_prompts} prompts"
        return (
            f"<table><caption>{html.escape(caption)}</caption>"
            f"<thead><tr>{head}<th>effect</th><th>95% interval</th></tr></thead><tbody>{lines}</tbody></table>"
        )


def _line(labels: Sequence[str], effect: float, between: tuple[float, float] | None) -> str:
    cells = "".join(f"<td>{html.escape(label)}</td>" for label in labels)
    interval = "" if between is None else f"{between[0]:+.4g} to {between[1]:+.4g}"
    return f"<tr>{cells}<td>{effect:+.4g}</td><td>{interval}</td></tr>"


def _plain(values: ndarray) -> Any:
    out = values.astype(object)
    out[~np.isfinite(values)] = None
    return out.tolist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure for each place of a grid, and its 95% interval over clusters of prompts (None: one cluster)."""

    value: Float[ndarray, "..."]
    interval: Float[ndarray, "2 ..."] | None


def mean_effect(effects: Float[ndarray, "... p"], clusters: Int[ndarray, " p"], *, seed: int = 0) -> Estimate:
    """Mean over prompts; the interval draws whole clusters again (percentile bootstrap)."""
    return ratio_effect(effects, np.ones(effects.shape[-1]), clusters, seed=seed)


def ratio_effect(
    numerators: Float[ndarray, "... p"],
    denominators: Float[ndarray, " p"],
    clusters: Int[ndarray, " p"],
    *,
    seed: int = 0,
) -> Estimate:
    """Ratio of means over prompts, not mean of ratios: one prompt with a small denominator does not rule the figure.

    Raises: DataError if the denominators' sum is zero or not finite.
    Source: Davison & Hinkley 1997, section 3.8 (cluster bootstrap).
    """
    numerators = np.asarray(numerators, dtype=np.float64)
    if denominators.sum() == 0 or not np.isfinite(denominators).all():
        raise DataError(
            f"got a mean difference of {denominators.mean():g} to take shares of; expected one that is not zero; "
            "choose prompts that the model tells apart, or another outcome"
        )
    _, member = np.unique(clusters, return_inverse=True)
    n_clusters = int(member.max()) + 1
    value = np.asarray(numerators.sum(-1) / denominators.sum())
    if n_clusters < 2:
        return Estimate(value, None)
    draws = np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=N_DRAWS)
    weights = draws.astype(np.float64)[:, member]
    # A draw of nothing but pairs that do not differ has no ratio.
    weights = weights[denominators @ weights.T != 0]
    drawn = (numerators @ weights.T) / (denominators @ weights.T)
    return Estimate(value, np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=-1))


def near_zero(denominators: Float[ndarray, " p"]) -> int:
    """How many prompts hardly tell clean from corrupt."""
    return int((np.abs(denominators) < NEAR_ZERO * np.abs(denominators).mean()).sum())


def axis_of(name: str, values: Sequence[object]) -> Axis:
    """An axis labelled by its values as they print."""
    return Axis(name, tuple(str(value) for value in values))
