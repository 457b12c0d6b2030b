"""Disentanglement of several sets of codes on the same examples, kept beside each other and on disk."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from interp.errors import ArtifactError
from interp.storage import read_json, write_json
from probes.disentanglement import COMMONEST, GEOMETRY, METRICS, Disentanglement
from probes.intervals import Score

SCHEMA_VERSION = 1
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class DisentanglementReport:
    """Arms of one set of labelled examples. `title` names the set; provenance says what repeats it."""

    title: str
    arms: tuple[Disentanglement, ...]
    provenance: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "disentanglement",
            "title": self.title,
            "arms": [_plain_arm(arm) for arm in self.arms],
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "DisentanglementReport":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        return DisentanglementReport.from_json(read_json(path), str(path))

    @staticmethod
    def from_json(held: Any, where: str = "report") -> "DisentanglementReport":
        """From `to_json`'s values.

        Raises: ArtifactError if they are of another kind or version.
        """
        known = isinstance(held, dict) and held.get("kind") == "disentanglement"
        if not known or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{where}: is no disentanglement of version {SCHEMA_VERSION}; measure again")
        try:
            arms = tuple(_arm_of(values) for values in held["arms"])
            return DisentanglementReport(held["title"], arms, held["provenance"])
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{where}: is damaged; measure again") from None

    def _repr_html_(self) -> str:
        """Metrics by arm, intervals in brackets."""
        head = "".join(f"<th>{html.escape(arm.name)}</th>" for arm in self.arms)
        lines = "".join(
            f"<tr><td>{metric}</td>"
            + "".join(f"<td>{score_text(arm.scores[metric])}</td>" for arm in self.arms)
            + "</tr>"
            for metric in (*METRICS, COMMONEST, *GEOMETRY)
        )
        caption = f"{self.title}: {', '.join(self.arms[0].factors)}" if self.arms else self.title
        return (
            f"<table><caption>{html.escape(caption)}</caption><thead><tr><th></th>{head}</tr></thead>"
            f"<tbody>{lines}</tbody></table>"
        )


def score_text(score: Score) -> str:
    """A figure as a table shows it, with its 95% interval where it has one."""
    if not score.defined:
        return "not defined"
    between = "" if score.interval is None else f" ({score.interval[0]:.3f} to {score.interval[1]:.3f})"
    return f"{score.value:.3f}{between}"


def _plain_arm(arm: Disentanglement) -> dict[str, Any]:
    simple = ("name", "n_examples", "n_clusters", "n_codes", "n_active", "gated")
    return {name: getattr(arm, name) for name in simple} | {
        "factors": list(arm.factors),
        "classes": [list(one) for one in arm.classes],
        "codes": list(arm.codes),
        "scores": {
            name: {"value": _number(s.value), "interval": s.interval and [_number(x) for x in s.interval]}
            for name, s in arm.scores.items()
        },
        "ungated": [_number(value) for value in arm.ungated],
        "information": _rounded(arm.information),
        "entropies": _rounded(arm.entropies),
        "spectrum": _rounded(arm.spectrum),
    }


def _arm_of(held: Mapping[str, Any]) -> Disentanglement:
    spectrum, entropies = (np.asarray(held[name], dtype=np.float64) for name in ("spectrum", "entropies"))
    scores = {name: Score(_float(s["value"]), _between(s["interval"])) for name, s in held["scores"].items()}
    simple = {name: held[name] for name in ("name", "n_examples", "n_clusters", "n_codes", "n_active", "gated")}
    modularity, compactness = held["ungated"]
    return Disentanglement(
        **simple,
        factors=tuple(held["factors"]),
        classes=tuple(tuple(one) for one in held["classes"]),
        codes=tuple(held["codes"]),
        scores=scores,
        ungated=(_float(modularity), _float(compactness)),
        information=np.asarray(held["information"], dtype=np.float64),
        entropies=entropies,
        spectrum=spectrum,
    )


def _rounded(values: ndarray) -> list[Any]:
    found: list[Any] = np.round(values, _DIGITS).tolist()
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _between(held: Any) -> tuple[float, float] | None:
    return None if held is None else (float(held[0]), float(held[1]))
