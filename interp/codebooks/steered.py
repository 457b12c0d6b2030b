"""What steering by codes did: success, perplexity and shift, beside random codes that are about as frequent."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interp.codebooks.measured import UNMEASURED, middle, told
from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class SteeredOutcome:
    """What one set of codes did. success: share of texts that match; perplexity of the texts behind the prompt, by the
    same model without steering; jsd: of the next-token distributions over neutral texts from those without the codes,
    in nats; toward: of the same from the model's own before the pattern, relative to that without codes, which is 1."""

    success: float
    perplexity: float
    jsd: float
    toward: float | None = None


@dataclass(frozen=True, slots=True)
class CodeSteering:
    """Steering by codes, beside sets of random codes of the same codebooks that are about as frequent, no two alike.

    Units: new_tokens, asked_tokens: length of the texts, and as asked for before the context was full; asked_sets of
    random codes, of which there are fewer where the codebooks hold no more. control_frequency: how often random codes
    are active, of how often the codes are, all of a set counted: the median over sets; None where nothing was counted.
    """

    codes: tuple[str, ...]
    pattern: str
    where: str
    prompt: str
    n_texts: int
    unsteered: SteeredOutcome
    steered: SteeredOutcome
    controls: tuple[SteeredOutcome, ...]
    texts: tuple[str, ...] = ()
    unsteered_texts: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    new_tokens: int = 0
    asked_tokens: int = 0
    asked_sets: int = 0
    control_frequency: float | None = None

    @property
    def p(self) -> float:
        """Share of controls with at least as many successes, the codes themselves counted in; NaN without controls."""
        if not self.controls:
            return math.nan
        return (1 + sum(one.success >= self.steered.success for one in self.controls)) / (1 + len(self.controls))

    @property
    def relative_shift(self) -> float:
        """JSD from the unsteered model, relative to the mean of the controls."""
        mean = float(np.mean([one.jsd for one in self.controls])) if self.controls else 0.0
        return self.steered.jsd / mean if mean else math.nan

    @property
    def p_toward(self) -> float:
        """Share of controls that come as near to the pattern, the codes themselves counted in; NaN if not measured."""
        found = [one.toward for one in self.controls if one.toward is not None]
        if self.steered.toward is None or not found:
            return math.nan
        return (1 + sum(one <= self.steered.toward for one in found)) / (1 + len(found))

    def shown(self) -> dict[str, str]:
        """What the table leaves out, by name."""
        cells = {
            "success against random codes": _p(self.p),
            "distance against random codes": _p(self.p_toward),
            "shift, of that of random codes": told(self.relative_shift, ".2f"),
            "frequency of random codes, of that of these": told(self.control_frequency, ".2f"),
        }
        if len(self.controls) < self.asked_sets:
            cells["sets of random codes"] = f"{len(self.controls)} that differ, of {self.asked_sets} asked for"
        if self.new_tokens < self.asked_tokens:
            cells["tokens of a text"] = f"{self.new_tokens}, not {self.asked_tokens}: the context is full"
        return cells

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        derived = {"p": self.p, "p_toward": self.p_toward, "relative_shift": self.relative_shift}
        found = {name: None if math.isnan(value) else value for name, value in derived.items()}
        return {"schema_version": SCHEMA_VERSION, "kind": "code_steering", **found, **asdict(self)}

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "CodeSteering":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, dict) or held.get("kind") != "code_steering":
            raise ArtifactError(f"{path}: holds no steering by codes; steer again")
        if held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: is of another version than {SCHEMA_VERSION}; steer again")
        try:
            return CodeSteering.from_json(held)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path}: is damaged; steer again") from None

    @staticmethod
    def from_json(held: Mapping[str, Any]) -> "CodeSteering":
        """The inverse of `to_json`."""
        values = {name: held[name] for name in CodeSteering.__slots__ if name in held}
        for name in ("unsteered", "steered"):
            values[name] = SteeredOutcome(**values[name])
        values["controls"] = tuple(SteeredOutcome(**one) for one in values["controls"])
        for name in ("codes", "texts", "unsteered_texts"):
            values[name] = tuple(values[name])
        return CodeSteering(**values)

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of COLUMNS, without and with the codes, and the middle 95% of the controls."""
        found = [("unsteered", *_cells(self.unsteered)), (", ".join(self.codes), *_cells(self.steered))]
        if self.controls:
            columns = ([getattr(one, name) for one in self.controls] for name in SteeredOutcome.__slots__)
            name = f"{len(self.controls)} sets of random codes, median (95%)"
            found.append((name, *(middle(column, ".3g") for column in columns)))
        return found

    def _repr_html_(self) -> str:
        """The table."""
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in self.rows())
        heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
        return f"<table><caption>success: {_p(self.p)}</caption><tr>{heads}</tr>{rows}</table>"


COLUMNS = ("", "success", "perplexity", "shift, nats", "distance (none = 1)")
DEFINED = (
    "Shift: Jensen-Shannon divergence of the next-token distributions on neutral text, with the codes active at every "
    "token, from those without. Distance: of the same distributions from the mean of those that the model itself makes "
    "directly before a match, on odd documents of the record; relative to that without codes, so that no intervention "
    "is 1 and less is nearer."
)
"""How the two last columns are defined."""


def _p(value: float) -> str:
    return UNMEASURED if math.isnan(value) else f"p {value:.3f}"


def _cells(outcome: SteeredOutcome) -> tuple[str, ...]:
    return f"{outcome.success:.3f}", f"{outcome.perplexity:.2f}", f"{outcome.jsd:.4f}", told(outcome.toward)
