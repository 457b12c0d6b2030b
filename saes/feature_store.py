"""A features folder, opened: statistics mapped from disk, the table by any column, search, labels."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from interp.config import closest
from interp.errors import ArtifactError, ConfigError
from saes.feature_files import load_features, read_head
from saes.feature_index import COLUMNS, INDEX_FILE
from saes.feature_statistics import FeatureStatistics

TokenKind = Literal["fires_on", "raises", "lowers"]
Bounds = tuple[float | int | None, float | int | None]


@dataclass(frozen=True, slots=True)
class Label:
    """What a person wrote about a feature."""

    feature: int
    label: str
    note: str
    updated_utc: str


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """Holds no connection: each question opens the index anew, so that threads may share a store."""

    folder: Path
    statistics: FeatureStatistics
    provenance: Mapping[str, Any]

    @staticmethod
    def open(folder: Path | str) -> "FeatureStore":
        """Raises: ArtifactError naming the file that is missing, damaged or of another version."""
        folder = Path(folder)
        if not (folder / INDEX_FILE).exists():
            raise ArtifactError(f"{folder / INDEX_FILE}: no such file; run `interp features` on the run")
        return FeatureStore(folder, load_features(folder), read_head(folder).get("provenance", {}))

    def table(
        self,
        *,
        sort: str = "density",
        descending: bool = True,
        where: Mapping[str, Bounds] | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Rows of the table whose columns lie within the bounds (None: open), sorted; what was not measured is last.

        Raises: ConfigError naming a column that there is not.
        """
        conditions, values = ["1"], []
        for name, (low, high) in (where or {}).items():
            for bound, sign in ((low, ">="), (high, "<=")):
                if bound is not None:
                    conditions.append(f"{_column(name)} {sign} ?")
                    values.append(bound)
        order = f"{_column(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, id"
        query = f"SELECT * FROM features WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ? OFFSET ?"
        with self._index() as index:
            rows = index.execute(query, (*values, limit, offset))
            return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

    def features_of_token(
        self, token: int, *, kind: TokenKind = "fires_on", limit: int = 50
    ) -> list[tuple[int, float]]:
        """Features that fire most on a token, raise or lower it, strongest first, with share of firings or logit."""
        query = (
            "SELECT feature, value FROM tokens WHERE token = ? AND kind = ? ORDER BY abs(value) DESC, feature LIMIT ?"
        )
        with self._index() as index:
            return [(feature, value) for feature, value in index.execute(query, (token, kind, limit))]

    def search(self, text: str, *, limit: int = 50) -> list[int]:
        """Features whose strongest windows hold every word of `text`, or whose label or note holds `text`."""
        # SQLite's queries end at a NUL.
        text = text.replace("\x00", " ")
        words = " ".join('"' + word.replace('"', '""') + '"' for word in text.split())
        if not words:
            return []
        pattern = "%" + "".join(f"\\{c}" if c in "%_\\" else c for c in text.strip()) + "%"
        labelled = (
            "SELECT feature FROM labels WHERE label LIKE ? ESCAPE '\\' OR note LIKE ? ESCAPE '\\' ORDER BY feature"
        )
        with self._index() as index:
            named = [row[0] for row in index.execute(labelled, (pattern, pattern))]
            found = index.execute("SELECT rowid FROM shown WHERE shown MATCH ? ORDER BY rowid LIMIT ?", (words, limit))
            return list(dict.fromkeys([*named, *(row[0] for row in found)]))[:limit]

    def label(self, feature: int) -> Label | None:
        """What was written about a feature."""
        return next((label for label in self.labels() if label.feature == feature), None)

    def labels(self) -> list[Label]:
        """All labels, by feature."""
        with self._index() as index:
            return [Label(*row) for row in index.execute("SELECT * FROM labels ORDER BY feature")]

    def set_label(self, feature: int, *, label: str, note: str = "") -> Label | None:
        """Write a label and a note; both empty takes them away. They survive a new pass over the same run.

        Raises: ConfigError if there is no such feature.
        """
        if not 0 <= feature < self.statistics.d_sae:
            raise ConfigError(f"got feature {feature}; expected 0 to {self.statistics.d_sae - 1}")
        with self._index(writable=True) as index, index:
            index.execute("DELETE FROM labels WHERE feature = ?", (feature,))
            if not label and not note:
                return None
            written = Label(feature, label, note, datetime.now(UTC).isoformat(timespec="seconds"))
            index.execute("INSERT INTO labels VALUES (?, ?, ?, ?)", (feature, label, note, written.updated_utc))
            return written

    @contextmanager
    def _index(self, *, writable: bool = False) -> Iterator[sqlite3.Connection]:
        path = (self.folder / INDEX_FILE).resolve()
        try:
            index = sqlite3.connect(f"{path.as_uri()}?mode={'rw' if writable else 'ro'}", uri=True)
            try:
                yield index
            finally:
                index.close()
        except sqlite3.DatabaseError as error:
            raise ArtifactError(f"{path}: {error}; check the file or collect the features again") from None


def _column(name: str) -> str:
    if name not in COLUMNS:
        raise ConfigError(f"got column {name!r}; {closest(name, list(COLUMNS))}")
    return name
