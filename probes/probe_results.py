"""What a sweep of probes found: typed rows that print, save and load themselves."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from interp.errors import ArtifactError
from interp.storage import read_json, write_json
from probes.description_length import DescriptionLength
from probes.intervals import Score

SCHEMA_VERSION = 1
LOGISTIC, MEAN_DIFFERENCE, IN_DISTRIBUTION = "logistic", "mean difference", "in-distribution mean difference"
NONLINEAR, CONTROL, SELECTIVITY = "nonlinear", "control task", "selectivity"
K_SPARSE, RANDOM_FEATURES, GROUP_SPARSE = "k-sparse", "random features", "group-sparse"
MAJORITY, BAG_OF_TOKENS = "majority", "bag of tokens"
LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a probe reads: a hook, or a dictionary's features there. `layer` is None outside the blocks."""

    name: str
    layer: int | None
    is_dictionary: bool = False


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Held-out accuracy of one probe (of SELECTIVITY: accuracy less that of the control), with its interval.

    site: its name; empty for what reads no activations. n_inputs: how many inputs it uses; None for all. c: the chosen
    strength of regularisation; for GROUP_SPARSE the penalty's share of the largest.
    Units: share of held-out examples; intervals resample documents.
    """

    attribute: str
    split: str
    site: str
    probe: str
    score: Score
    n_inputs: int | None = None
    c: float | None = None


@dataclass(frozen=True, slots=True)
class DescriptionRow:
    """The online code of LABELS, or of their CONTROL, at one site."""

    attribute: str
    site: str
    of: str
    length: DescriptionLength


@dataclass(frozen=True, slots=True)
class Confusion:
    """Held-out examples by class (rows) and by answer (columns) of the logistic probe."""

    attribute: str
    split: str
    site: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class DirectionMap:
    """Cosines between directions at one site: of each class the mean of its examples less that of all others' means."""

    site: str
    names: tuple[str, ...]
    cosines: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """One way to take a concept out: what probes trained anew still find, and how far activations are moved.

    fitted: accuracy on the examples that eraser and probe were fitted on; held_out, nonlinear: of a linear and of a
    nonlinear probe on held-out documents. cross_covariance: largest entry, on the fitted examples and on the others.
    Units: mean_square_change in squared activations.
    """

    attribute: str
    site: str
    method: str
    n_removed: int
    fitted: Score
    held_out: Score
    nonlinear: Score
    mean_square_change: float
    cross_covariance: float
    held_out_cross_covariance: float


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A held-out text with what a probe says of every token.

    Shapes: probabilities[i][c] of token i and class c. labels: the true class where the token carries one, else empty.
    """

    attribute: str
    site: str
    document: str
    classes: tuple[str, ...]
    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Everything a sweep found.

    about: model, data, settings, versions. splits[attribute][split]: what stands on either side, and the overlap.
    """

    about: Mapping[str, Any]
    sites: tuple[Site, ...]
    splits: Mapping[str, Mapping[str, Mapping[str, Any]]]
    rows: tuple[ProbeRow, ...]
    descriptions: tuple[DescriptionRow, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    directions: tuple[DirectionMap, ...] = ()
    erasures: tuple[ErasureRow, ...] = ()
    texts: tuple[ScoredText, ...] = field(default=(), repr=False)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def find(self, attribute: str, split: str, probe: str, *, site: str | None = None) -> list[ProbeRow]:
        """Rows of one attribute, split and probe, in order of the sites; of one site if it is given."""
        key = (attribute, split, probe)
        return [
            row
            for row in self.rows
            if (row.attribute, row.split, row.probe) == key and (site is None or row.site == site)
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = {name: [_plain(row) for row in getattr(self, name)] for name in _ROWS}
        return {"schema_version": SCHEMA_VERSION, "about": dict(self.about), "splits": dict(self.splits), **rows}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "ProbeReport":
        """The inverse of `to_json`.

        Raises: ArtifactError if the values are of another version or not whole.
        """
        if values.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(
                f"got schema version {values.get('schema_version')}; expected {SCHEMA_VERSION}; run anew"
            )
        try:
            rows = {name: tuple(_row(cls, one) for one in values[name]) for name, cls in _ROWS.items()}
            return ProbeReport(about=values["about"], splits=values["splits"], **rows)
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"not a whole report of probes ({error}); run `interp probe` again") from None

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "ProbeReport":
        """What `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another version.
        """
        values = read_json(path)
        if not isinstance(values, dict):
            raise ArtifactError(f"{path}: expected a JSON object; run `interp probe` again")
        return ProbeReport.from_json(values)

    def _repr_html_(self) -> str:
        """A table of held-out accuracies: a line for each attribute, split and site."""
        probes = list(dict.fromkeys(row.probe for row in self.rows if row.n_inputs is None))
        held: dict[tuple[str, str, str], dict[str, Score]] = {}
        for row in self.rows:
            if row.n_inputs is None:
                held.setdefault((row.attribute, row.split, row.site), {})[row.probe] = row.score
        lines = ([*key, *(score_text(found.get(probe)) for probe in probes)] for key, found in held.items())
        return _table(["attribute", "held out by", "site", *probes], lines)


_ROWS: Mapping[str, type[Any]] = {
    "sites": Site,
    "rows": ProbeRow,
    "descriptions": DescriptionRow,
    "confusions": Confusion,
    "directions": DirectionMap,
    "erasures": ErasureRow,
    "texts": ScoredText,
}


def score_text(score: Score | None) -> str:
    """A figure with its interval, as tables show it."""
    if score is None or not score.defined:
        return ""
    return f"{score.value:.3f}" + (f" ({score.interval[0]:.3f}–{score.interval[1]:.3f})" if score.interval else "")


def _plain(row: Any) -> dict[str, Any]:
    """A row as plain values, what is not defined as None."""
    return {
        one.name: value.to_json() if isinstance(value := getattr(row, one.name), Score | DescriptionLength) else value
        for one in fields(row)
    }


def _row(cls: type[Any], values: Mapping[str, Any]) -> Any:
    return cls(**{name: _value(value) for name, value in values.items()})


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return DescriptionLength.from_json(value) if "bits" in value else Score.from_json(value)
    return tuple(_value(each) for each in value) if isinstance(value, list) else value


def _table(head: Sequence[str], lines: Any) -> str:
    cells = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
