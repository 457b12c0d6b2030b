"""Which features separate two sets of documents: effect sizes, permutation tests, false discoveries held down.

Axes: n documents of both sets, a and b of each, f features.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from interp.errors import ArtifactError, DataError
from interp.storage import read_json, write_json
from probes.document_activations import Context, DocumentActivations
from probes.permutation import MOST_DRAWS, benjamini_hochberg, least_p, permutation_p

SCHEMA_VERSION = 1
By = Literal["mean", "max"]
N_DRAWS = 400
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class ContrastRow:
    """One feature. Positive d and AUC above a half: more of it in A. p and q are of the statistic that was tested.

    d: Cohen's d of documents. auc: P(document of A > document of B), ties half. share: of documents on which it fires,
    that is, goes above zero. auc_interval: 95%, resampling documents; only of the rows that are shown.
    """

    feature: int
    d_mean: float
    d_max: float
    auc_mean: float
    auc_max: float
    mean_a: float
    mean_b: float
    share_a: float
    share_b: float
    p: float
    q: float
    auc_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a feature is strongest: the documents of A, the documents of B."""

    feature: int
    a: tuple[Context, ...]
    b: tuple[Context, ...]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Features tested, those with the least q first. `least_p` is the smallest p that so many documents can give."""

    names: tuple[str, str]
    n_documents: tuple[int, int]
    n_tokens: tuple[int, int]
    by: By
    n_features: int
    rows: tuple[ContrastRow, ...]
    least_p: float
    evidence: tuple[Evidence, ...]
    vocabulary: Mapping[int, str]
    provenance: Mapping[str, Any]

    @property
    def n_discoveries(self) -> int:
        """Features that separate the sets, with at most LEVEL of them expected to be chance."""
        return sum(row.q <= LEVEL for row in self.rows)

    @property
    def is_too_small(self) -> bool:
        """Whether no single feature could have been a discovery, so that none says nothing."""
        return bool(self.rows) and self.least_p * len(self.rows) > LEVEL

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined becomes None."""
        held = asdict(self)
        rows = [{k: _plain(v) for k, v in row.items()} for row in held.pop("rows")]
        vocabulary = {str(token): text for token, text in held.pop("vocabulary").items()}
        more = {"rows": rows, "vocabulary": vocabulary, "n_discoveries": self.n_discoveries}
        return {"schema_version": SCHEMA_VERSION, "kind": "contrast", **held, **more}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "Contrast":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, dict) or (held.get("kind"), held.get("schema_version")) != ("contrast", SCHEMA_VERSION):
            raise ArtifactError(f"{path}: is no contrast of version {SCHEMA_VERSION}; measure again")
        try:
            return _contrast_of(held)
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path}: is damaged; measure again") from None

    def _repr_html_(self) -> str:
        """The first twenty features."""
        columns = ("feature", "d", "AUC", "fires in A", "fires in B", "p", "q")
        head = "".join(f"<th>{name}</th>" for name in columns)
        lines = "".join(
            f"<tr>{''.join(f'<td>{cell}</td>' for cell in row_cells(row, self.by))}</tr>" for row in self.rows[:20]
        )
        told = f"A: {self.names[0]}, B: {self.names[1]}; {self.n_discoveries} of {len(self.rows)} at q ≤ {LEVEL}"
        caption = f"<caption>{html.escape(told)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


_COLUMNS = ("d_mean", "d_max", "auc_mean", "auc_max", "mean_a", "mean_b", "share_a", "share_b", "p", "q")


def row_cells(row: ContrastRow, by: By) -> tuple[str, ...]:
    """feature, d, AUC with its interval, shares of documents, p, q: as tables show them."""
    d, auc = (row.d_mean, row.auc_mean) if by == "mean" else (row.d_max, row.auc_max)
    between = "" if row.auc_interval is None else f" ({row.auc_interval[0]:.3f} to {row.auc_interval[1]:.3f})"
    size = "–" if math.isnan(d) else f"{d:+.2f}"
    shares = f"{row.share_a:.0%}", f"{row.share_b:.0%}"
    return str(row.feature), size, f"{auc:.3f}{between}", *shares, f"{row.p:.2g}", f"{row.q:.2g}"


def contrast_rows(
    a: DocumentActivations,
    b: DocumentActivations,
    *,
    by: By = "mean",
    least_documents: int = 3,
    most_draws: int = MOST_DRAWS,
    seed: int = 0,
) -> list[ContrastRow]:
    """Test every feature that fires in at least `least_documents` documents of both sets together, strongest first.

    Which features are tested does not look at the sets, so that the test stays exact.

    Raises: DataError if a set has fewer than two documents, or no feature fires often enough.
    """
    if min(a.document.size, b.document.size) < 2:
        raise DataError(f"got {a.document.size} and {b.document.size} documents; expected at least two on each side")
    mean, peak = np.concatenate([a.mean, b.mean]), np.concatenate([a.peak, b.peak])
    first = np.arange(mean.shape[0]) < a.document.size
    fires = peak > 0
    tested = np.flatnonzero((fires.sum(0) >= least_documents) & (mean.max(0) > mean.min(0)))
    if tested.size == 0:
        raise DataError(f"got no feature that fires in {least_documents} documents; give more text")
    mean, peak, fires = mean[:, tested], peak[:, tested], fires[:, tested]
    p = permutation_p(mean if by == "mean" else peak, first, most_draws=most_draws, seed=seed)
    q = benjamini_hochberg(p)
    d_mean, d_max = cohens_d(mean, first), cohens_d(peak, first)
    auc_mean, auc_max = auc_of(mean, first), auc_of(peak, first)
    columns = (d_mean, d_max, auc_mean, auc_max, mean[first].mean(0), mean[~first].mean(0),
               fires[first].mean(0), fires[~first].mean(0), p, q)  # fmt: skip
    strength = np.abs(np.nan_to_num(d_mean if by == "mean" else d_max))
    order = np.lexsort((-strength, p))
    return [_row_of_columns(int(tested[i]), [float(column[i]) for column in columns]) for i in order]


def _row_of_columns(feature: int, values: Sequence[float]) -> ContrastRow:
    named: Any = dict(zip(_COLUMNS, values, strict=True))
    return ContrastRow(feature, **named)


def cohens_d(values: Float[ndarray, "n f"], first: Bool[ndarray, " n"]) -> Float[ndarray, " f"]:
    """Difference of the groups' means in units of their pooled standard deviation; NaN where neither varies."""
    one, two = values[first], values[~first]
    squares = ((one - one.mean(0)) ** 2).sum(0) + ((two - two.mean(0)) ** 2).sum(0)
    sd = np.sqrt(squares / max(values.shape[0] - 2, 1))
    return np.asarray(np.divide(one.mean(0) - two.mean(0), sd, out=np.full_like(sd, np.nan), where=sd > 0))


def auc_of(values: Float[ndarray, "n f"], first: Bool[ndarray, " n"]) -> Float[ndarray, " f"]:
    """P(a document of the first group has more than one of the second), ties half."""
    n_first, n_second = int(first.sum()), int((~first).sum())
    ranks = rankdata(values, axis=0)[first].sum(0)
    return np.asarray((ranks - n_first * (n_first + 1) / 2) / (n_first * n_second))


def auc_interval(values: Float[ndarray, " n"], first: Bool[ndarray, " n"], *, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the AUC, drawing documents of each group again."""
    draw = np.random.default_rng(seed)
    order = np.argsort(values, kind="stable")
    _, starts = np.unique(values[order], return_index=True)
    # How often each distinct value was drawn: pairs of documents would be too many of long lists.
    one, two = (np.add.reduceat(_drawn(side, draw)[:, order], starts, axis=1) / side.sum() for side in (first, ~first))
    drawn = (one * (two.cumsum(1) - two / 2)).sum(1)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return low, high


def _drawn(group: Bool[ndarray, " n"], draw: np.random.Generator) -> Int[ndarray, "m n"]:
    """How often each document of the group is in each draw of as many; all others never."""
    found = np.zeros((N_DRAWS, group.size), dtype=np.int64)
    found[:, group] = draw.multinomial(group.sum(), np.full(group.sum(), 1 / group.sum()), size=N_DRAWS)
    return found


def smallest_p(a: DocumentActivations, b: DocumentActivations, *, most_draws: int = MOST_DRAWS) -> float:
    """The smallest p that the two sets can give."""
    return least_p(a.document.size + b.document.size, a.document.size, most_draws=most_draws)


def ids_in(evidence: Sequence[Evidence]) -> Int[ndarray, " v"]:
    """Every token id that the contexts show."""
    found = {token for one in evidence for context in (*one.a, *one.b) for token in context.token_ids}
    return np.array(sorted(found), dtype=np.int64)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _contrast_of(held: Mapping[str, Any]) -> Contrast:
    simple = {field.name: held[field.name] for field in fields(Contrast)}
    simple |= {name: tuple(held[name]) for name in ("names", "n_documents", "n_tokens")}
    simple["rows"] = tuple(_row_of(row) for row in held["rows"])
    simple["vocabulary"] = {int(token): text for token, text in held["vocabulary"].items()}
    simple["evidence"] = tuple(
        Evidence(one["feature"], *(tuple(_context_of(c) for c in one[side]) for side in ("a", "b")))
        for one in held["evidence"]
    )
    return Contrast(**simple)


def _row_of(held: Mapping[str, Any]) -> ContrastRow:
    interval = held["auc_interval"]
    plain: Any = {k: math.nan if v is None else v for k, v in held.items() if k != "auc_interval"}
    return ContrastRow(**plain, auc_interval=None if interval is None else (interval[0], interval[1]))


def _context_of(held: Mapping[str, Any]) -> Context:
    plain: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in held.items()}
    return Context(**plain)
