"""What steering by codes did: success, perplexity and shift, beside random codes that are about as frequent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import ArtifactError
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class SteeredOutcome:
    """What one set of codes did. success: share of texts that match; perplexity of the texts behind the prompt, by the
    same model without steering; jsd: of the next-token distributions over neutral texts, in nats."""

    success: float
    perplexity: float
    jsd: float


@dataclass(frozen=True, slots=True)
class CodeSteering:
    """Steering by codes, beside random codes of the same codebooks that are about as frequent."""

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

    @property
    def p(self) -> float:
        """Share of controls with at least as many successes, the codes themselves counted in."""
        return (1 + sum(one.success >= self.steered.success for one in self.controls)) / (1 + len(self.controls))

    @property
    def relative_shift(self) -> float:
        """JSD from the unsteered model, relative to the mean of the controls."""
        mean = np.mean([one.jsd for one in self.controls]) if self.controls else float("nan")
        return float(self.steered.jsd / mean) if mean else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema_version": SCHEMA_VERSION, "kind": "code_steering", "p": self.p, **asdict(self)}

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
        try:
            return CodeSteering.from_json(held)
        except (KeyError, TypeError):
            raise ArtifactError(f"{path}: is damaged; steer again") from None

    @staticmethod
    def from_json(held: Mapping[str, Any]) -> "CodeSteering":
        """The inverse of `to_json`."""
        values = {name: held[name] for name in CodeSteering.__slots__}
        for name in ("unsteered", "steered"):
            values[name] = SteeredOutcome(**values[name])
        values["controls"] = tuple(SteeredOutcome(**one) for one in values["controls"])
        for name in ("codes", "texts", "unsteered_texts"):
            values[name] = tuple(values[name])
        return CodeSteering(**values)

    def rows(self) -> list[tuple[str, ...]]:
        """Cells: success, perplexity and shift, without and with the codes and with the middle 95% of the controls."""
        found = [("unsteered", *_cells(self.unsteered)), (", ".join(self.codes), *_cells(self.steered))]
        if self.controls:
            values = np.array([[one.success, one.perplexity, one.jsd] for one in self.controls])
            low, middle, high = np.quantile(values, (0.025, 0.5, 0.975), axis=0)
            cells = [f"{m:.3g} ({a:.3g} to {b:.3g})" for a, m, b in zip(low, middle, high, strict=True)]
            found.append((f"{len(self.controls)} random codes, median (95%)", *cells))
        return found

    def _repr_html_(self) -> str:
        """The table."""
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in self.rows())
        heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
        return f"<table><caption>success p {self.p:.3f}</caption><tr>{heads}</tr>{rows}</table>"


COLUMNS = ("", "success", "perplexity", "shift (JSD, nats)")


def _cells(outcome: SteeredOutcome) -> tuple[str, ...]:
    return f"{outcome.success:.3f}", f"{outcome.perplexity:.2f}", f"{outcome.jsd:.4f}"
