"""Attribution held against true patching of the same components: how near, and at what cost."""

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interp.attribution import attribution_patching
from interp.components import Component
from interp.errors import ArtifactError
from interp.integrated_gradients import integrated_gradients
from interp.models import Model
from interp.outcomes import Outcome
from interp.patching import patch_sweep
from interp.prompts import PromptPairs
from interp.storage import read_json, write_json
from interp.sweep_cells import listed_cells
from interp.two_runs import Direction, seen

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class AttributionCheck:
    """Estimated and measured effects of the same components, in the order of `labels`.

    Units: effects are shares of the difference between the two runs.
    """

    kind: str
    direction: str
    method: str
    labels: tuple[str, ...]
    estimated: tuple[float, ...]
    measured: tuple[float, ...]
    seconds_estimated: float
    seconds_measured: float
    n_pairs: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def correlation(self) -> float:
        """Pearson's, over components; not a number where one side does not vary."""
        estimated, measured = np.array(self.estimated), np.array(self.measured)
        if len(estimated) < 3 or estimated.std() == 0 or measured.std() == 0:
            return float("nan")
        return float(np.corrcoef(estimated, measured)[0, 1])

    @property
    def mean_error(self) -> float:
        """Mean |estimated - measured| over the mean |measured|."""
        estimated, measured = np.array(self.estimated), np.array(self.measured)
        scale = float(np.abs(measured).mean())
        return float(np.abs(estimated - measured).mean()) / scale if scale else float("nan")

    @property
    def speed(self) -> float:
        """How many times as long patching took."""
        return self.seconds_measured / self.seconds_estimated

    def to_json(self) -> dict[str, Any]:
        """Plain values; a correlation that is not defined becomes None."""
        r, error = self.correlation, self.mean_error
        more = {"correlation": r if np.isfinite(r) else None, "mean_error": error if np.isfinite(error) else None}
        return {"schema_version": SCHEMA_VERSION, "kind_of_result": "attribution_check", **asdict(self), **more}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "AttributionCheck":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, Mapping) or held.get("kind_of_result") != "attribution_check":
            raise ArtifactError(f"{path}: is no check of attribution; run the analysis again")
        try:
            values: dict[str, Any] = {name: tuple(held[name]) for name in ("labels", "estimated", "measured")}
            plain = ("kind", "direction", "method", "seconds_estimated", "seconds_measured", "n_pairs", "provenance")
            return AttributionCheck(**values, **{name: held[name] for name in plain})
        except (KeyError, TypeError):
            raise ArtifactError(f"{path}: is damaged; run the analysis again") from None

    def _repr_html_(self) -> str:
        """The figures as a table."""
        head = "".join(f"<th>{name}</th>" for name in SUMMARY)
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in self.summary())
        return f"<table><tr>{head}</tr><tr>{cells}</tr></table>"

    def summary(self) -> tuple[str, ...]:
        """One line of a table, under `SUMMARY`."""
        return (
            f"{self.kind}, {self.direction}, {self.method}",
            f"{len(self.labels):,}",
            f"{self.correlation:.3f}",
            f"{self.mean_error:.1%}",
            f"{self.seconds_estimated:.2f} s",
            f"{self.seconds_measured:.2f} s",
            f"{self.speed:.1f}×",
        )


SUMMARY = ("", "n", "correlation", "mean error", "attribution", "patching", "faster")


def check_attribution(
    model: Model,
    pairs: PromptPairs,
    components: Sequence[Component],
    outcome: Outcome,
    *,
    kind: str,
    direction: Direction,
    n_steps: int | None = None,
) -> AttributionCheck:
    """Estimate every component's effect, then patch each of them for real in the same direction.

    With `n_steps` the estimate is that of integrated gradients along the input. Both are timed, once, one after the
    other, behind a pass that warms up.

    Raises: what attribution and patching raise.
    """
    cells = listed_cells(components)
    seen(model, pairs.clean, [], outcome, pairs.clean)
    started = time.perf_counter()
    if n_steps is None:
        found = attribution_patching(model, pairs, components, outcome, direction=direction)
    else:
        found = integrated_gradients(model, pairs, components, outcome, direction=direction, n_steps=n_steps)
    between = time.perf_counter()
    true = patch_sweep(model, pairs, cells, direction=direction, outcome=outcome)
    ended = time.perf_counter()
    return AttributionCheck(
        kind=kind,
        direction=direction,
        method="attribution patching" if n_steps is None else f"integrated gradients, {n_steps} steps",
        labels=tuple(str(component) for component in components),
        estimated=tuple(found.effect[:, 0].tolist()),
        measured=tuple(true.effect.tolist()),
        seconds_estimated=between - started,
        seconds_measured=ended - between,
        n_pairs=len(pairs),
        provenance={"model": model.facts},
    )
