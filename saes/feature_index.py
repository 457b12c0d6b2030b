"""features.sqlite: the table of features, the tokens they fire on and raise, text to search, people's labels."""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.errors import ArtifactError, StorageError
from interp.storage import told
from saes.feature_files import read_head
from saes.feature_statistics import FeatureStatistics

INDEX_FILE = "features.sqlite"
LabelRow = tuple[int, str, str, str]
"""Feature, label, note, time."""
SEARCHED_WINDOWS = 3
"""Strongest windows of each feature whose text can be searched."""
COLUMNS = {
    "id": "INTEGER PRIMARY KEY",
    "level": "INTEGER",
    "density": "REAL",
    "density_low": "REAL",
    "density_high": "REAL",
    "firings": "INTEGER",
    "max_activation": "REAL",
    "mean_activation": "REAL",
    "top_token": "INTEGER",
    "top_token_share": "REAL",
    "token_auc": "REAL",
    "bigram_auc": "REAL",
    "detection_auc": "REAL",
    "partner": "INTEGER",
    "partner_correlation": "REAL",
    "neighbour": "INTEGER",
    "neighbour_cosine": "REAL",
    "parent": "INTEGER",
    "parent_given_feature": "REAL",
}
"""Columns of the table; NULL where there is nothing or nothing was measured."""
_SCHEMA = f"""
CREATE TABLE features ({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())});
CREATE TABLE tokens (token INTEGER, kind TEXT, feature INTEGER, value REAL, PRIMARY KEY (token, kind, feature))
    WITHOUT ROWID;
CREATE VIRTUAL TABLE shown USING fts5(text, content='');
CREATE TABLE labels (feature INTEGER PRIMARY KEY, label TEXT NOT NULL, note TEXT NOT NULL, updated_utc TEXT NOT NULL);
"""


def write_index(
    folder: Path,
    statistics: FeatureStatistics,
    shown: Iterable[Int[np.ndarray, "E w"]],
    token_texts: Sequence[str],
    *,
    labels: Sequence[LabelRow] = (),
) -> None:
    """Write features.sqlite into a features folder.

    `shown` are, feature by feature, the tokens of the windows whose text can be searched.

    Raises: StorageError if it cannot be written.
    """
    path, temporary = folder / INDEX_FILE, folder / f".{INDEX_FILE}.tmp"
    with told(path):
        temporary.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(temporary)) as index, index:
                index.executescript(_SCHEMA)
                _fill(index, statistics)
                index.executemany("INSERT INTO shown (rowid, text) VALUES (?, ?)", _shown(shown, token_texts))
                index.executemany("INSERT INTO labels VALUES (?, ?, ?, ?)", labels)
            temporary.replace(path)
        except sqlite3.OperationalError as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            remedy = "free some space" if full else "check the folder, and whether another program has the file open"
            raise StorageError(f"{path}: cannot be written ({error}); {remedy}") from None
        finally:
            temporary.unlink(missing_ok=True)


def labels_to_keep(folder: Path, sae: Mapping[str, Any]) -> list[LabelRow]:
    """Labels in a features folder that is to be replaced by a pass over `sae` (its entry in the provenance).

    Raises: ArtifactError if they cannot be read, or name features of another SAE.
    """
    path = folder / INDEX_FILE
    labels = read_labels(path) if path.exists() else []
    if labels and (then := _sae_of(folder)) != sae["content_hash"]:
        raise ArtifactError(
            f"{folder}: holds {len(labels)} labels of another SAE ({then[:12] or 'unknown'} then, "
            f"{sae['content_hash'][:12]} now); move the folder away to keep them, or remove it"
        )
    return labels


def _sae_of(folder: Path) -> str:
    """Hash of the SAE that a features folder is about; empty where the folder cannot tell."""
    try:
        return str(read_head(folder)["provenance"]["sae"]["content_hash"])
    except (ArtifactError, KeyError):
        return ""


def read_labels(path: Path) -> list[LabelRow]:
    """Rows of the labels table.

    Raises: ArtifactError if the index is damaged.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as index:
            return index.execute("SELECT feature, label, note, updated_utc FROM labels ORDER BY feature").fetchall()
    except sqlite3.DatabaseError as error:
        raise ArtifactError(
            f"{path}: labels cannot be read ({error}); mend the file, or move it away and collect again without them"
        ) from None


def _fill(index: sqlite3.Connection, statistics: FeatureStatistics) -> None:
    places = ", ".join("?" * len(COLUMNS))
    index.executemany(f"INSERT INTO features VALUES ({places})", zip(*_columns(statistics), strict=True))
    index.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?)", _tokens(statistics))
    for name in COLUMNS:
        if name != "id":
            index.execute(f"CREATE INDEX by_{name} ON features ({name})")


def _columns(s: FeatureStatistics) -> list[list[Any]]:
    """In the order of COLUMNS."""
    arrays = (
        np.arange(s.d_sae), s.level, s.density, s.density_interval[:, 0], s.density_interval[:, 1], s.firings,
        s.max_activation, s.mean_activation, s.firing_tokens[:, :1], s.firing_token_share[:, :1], s.token_auc,
        s.bigram_auc, s.detection_auc, s.partners[:, :1], s.partner_correlation[:, :1], s.neighbours[:, :1],
        s.neighbour_cosine[:, :1], s.parents[:, :1], s.parent_given_feature[:, :1],
    )  # fmt: skip
    return [_plain(array, s.d_sae) for array in arrays]


def _plain(array: np.ndarray, n: int) -> list[Any]:
    """Python numbers, None for -1 and NaN and for a list of which nothing was kept."""
    if array.ndim == 2:
        array = array[:, 0] if array.shape[1] else np.full(n, -1)
    return [None if value == -1 or math.isnan(value) else value for value in array.tolist()]


def _tokens(s: FeatureStatistics) -> Iterator[tuple[int, str, int, float]]:
    kinds = {
        "fires_on": (s.firing_tokens, s.firing_token_share),
        "raises": (s.raised_tokens, s.raised_logits),
        "lowers": (s.lowered_tokens, s.lowered_logits),
    }
    for kind, (tokens, values) in kinds.items():
        for feature, (ids, numbers) in enumerate(zip(tokens.tolist(), values.tolist(), strict=True)):
            yield from ((token, kind, feature, x) for token, x in zip(ids, numbers, strict=True) if token >= 0)


def _shown(windows_of: Iterable[Int[np.ndarray, "E w"]], texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    for feature, windows in enumerate(windows_of):
        pieces = ["".join(texts[token] for token in window if 0 <= token < len(texts)) for window in windows.tolist()]
        # Half characters cannot be stored; they cannot be searched for either.
        yield feature, "\n".join(pieces).encode("utf-8", "replace").decode()
