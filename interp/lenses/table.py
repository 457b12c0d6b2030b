"""The lens table: precision@k and surprisal of every arm, by layer and distance."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from interp.errors import ArtifactError
from interp.lenses.scoring import AT, Between, Figure
from interp.storage import read_json, write_json

SCHEMA_VERSION = 1
Mode = Literal["blind", "fed"]
MODES: tuple[Mode, ...] = get_args(Mode)
LOGIT_LENS, TUNED_LENS = "logit lens", "tuned lens"
LINEAR_VOCAB, LINEAR_HIDDEN = "linear vocab", "linear hidden"
FIXED, LEARNED = "fixed prompt", "learned prompt"
FIXED_ALONE, LEARNED_ALONE = "fixed prompt, no transplant", "learned prompt, no transplant"
BIGRAM, TRIGRAM, ITSELF = "bigram", "trigram", "the model itself"
ARMS = (
    *(LOGIT_LENS, TUNED_LENS, LINEAR_VOCAB, LINEAR_HIDDEN, FIXED, LEARNED),
    *(FIXED_ALONE, LEARNED_ALONE, BIGRAM, TRIGRAM, ITSELF),
)


@dataclass(frozen=True, slots=True)
class LensRow:
    """One arm at one layer (None: it reads no state) and distance (0: the next token).

    mode: fed arms see the true tokens in between, blind ones do not; at distance 0 there are none. precision: at 1, 5
    and 10.
    Units: surprisal in nats.
    """

    arm: str
    mode: Mode
    hook: str | None
    distance: int
    precision: tuple[Figure, ...]
    surprisal: Figure
    n_examples: int


@dataclass(frozen=True, slots=True)
class LensTable:
    """All arms over the same held-out prefixes; targets are the model's own continuations."""

    rows: tuple[LensRow, ...]
    hooks: tuple[str, ...]
    n_distances: int
    decoding: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def row(self, arm: str, mode: Mode, distance: int, hook: str | None = None) -> LensRow | None:
        """The row of an arm, None where it was not measured."""
        wanted = (arm, mode, hook, distance)
        return next((row for row in self.rows if (row.arm, row.mode, row.hook, row.distance) == wanted), None)

    def best(self, arm: str, mode: Mode, distance: int) -> LensRow | None:
        """The arm's row at its most precise layer (at 1). Chosen on the same examples: read it with all layers."""
        held = [row for row in self.rows if (row.arm, row.mode, row.distance) == (arm, mode, distance)]
        return max(held, key=lambda row: row.precision[0].value, default=None)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that were measured, in their usual order."""
        held = {row.arm for row in self.rows}
        return tuple(arm for arm in ARMS if arm in held)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "lens_table",
            "at": list(AT),
            "rows": [_plain(asdict(row)) for row in self.rows],
            "hooks": list(self.hooks),
            "n_distances": self.n_distances,
            "decoding": self.decoding,
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def from_json(held: Mapping[str, Any], where: str = "lens table") -> "LensTable":
        """From `to_json`'s values.

        Raises: ArtifactError if they are of another kind or version, or damaged.
        """
        if held.get("kind") != "lens_table" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{where}: is no lens table of version {SCHEMA_VERSION}; measure again")
        try:
            rows = tuple(_row(row) for row in held["rows"])
            return LensTable(rows, tuple(held["hooks"]), held["n_distances"], held["decoding"], held["provenance"])
        except (KeyError, TypeError):
            raise ArtifactError(f"{where}: is damaged; measure again") from None

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "LensTable":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        return LensTable.from_json(read_json(path), str(path))

    def _repr_html_(self) -> str:
        """Precision@1 of each arm by distance, at its most precise layer."""
        head = "".join(f"<th>N={n}</th>" for n in range(self.n_distances))
        lines = "".join(_line(self, arm, mode) for mode in MODES for arm in self.arms)
        caption = f"precision@1 at each arm's best layer, {html.escape(self.decoding)} continuations"
        return (
            f"<table><caption>{caption}</caption>"
            f"<thead><tr><th>arm</th><th>mode</th>{head}</tr></thead><tbody>{lines}</tbody></table>"
        )


def _line(table: LensTable, arm: str, mode: Mode) -> str:
    best = [table.best(arm, mode, n) for n in range(table.n_distances)]
    if not any(best):
        return ""
    cells = "".join(f"<td>{'' if row is None else f'{row.precision[0].value:.3f}'}</td>" for row in best)
    return f"<tr><td>{html.escape(arm)}</td><td>{mode}</td>{cells}</tr>"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _row(held: Mapping[str, Any]) -> LensRow:
    precision = tuple(_figure(figure) for figure in held["precision"])
    names = ("arm", "mode", "hook", "distance", "n_examples")
    return LensRow(precision=precision, surprisal=_figure(held["surprisal"]), **{name: held[name] for name in names})


def _figure(held: Mapping[str, Any]) -> Figure:
    between: Sequence[float] | None = held["interval"]
    value = float("nan") if held["value"] is None else held["value"]
    interval: Between | None = None if between is None else (between[0], between[1])
    return Figure(value, interval)
