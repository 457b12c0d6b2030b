"""Feature statistics as Parquet, for other tools: one table of features, one of windows.

Axes: f features.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from interp.storage import make_folder, told
from saes.feature_files import ARRAYS, OPTIONAL
from saes.feature_statistics import FeatureStatistics
from saes.feature_windows import KINDS, RECORD_FIELDS, Windows

FEATURES_FILE, WINDOWS_FILE = "features.parquet", "windows.parquet"
EXPORTED_FEATURES = 256


def export_parquet(
    statistics: FeatureStatistics, folder: Path, *, provenance: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write features.parquet (a row per feature) and windows.parquet (a row per window), a few features at a time.

    `provenance` (model, SAE, data, settings: `FeatureStore.provenance`) goes into both, as JSON.

    Raises: StorageError if they cannot be written.
    """
    make_folder(folder)
    facts = {"provenance": json.dumps(dict(provenance or {}), ensure_ascii=False)}
    return [_features(statistics, folder / FEATURES_FILE, facts), _windows(statistics, folder / WINDOWS_FILE, facts)]


def _features(statistics: FeatureStatistics, path: Path, facts: dict[str, str]) -> Path:
    import pyarrow
    from pyarrow import parquet

    columns = {"feature": pyarrow.array(np.arange(statistics.d_sae))}
    for name in (*ARRAYS, *OPTIONAL):
        value = getattr(statistics, name)
        # A list of which nothing was kept is no column.
        if name != "bin_edges" and value is not None and value.size:
            columns[name] = _array(value)
    edges = ",".join(f"{edge:.9g}" for edge in statistics.bin_edges)
    facts = facts | {"n_tokens": str(statistics.n_tokens), "bin_edges": edges}
    with _whole(path) as temporary:
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata(facts), temporary)
    return path


def _windows(statistics: FeatureStatistics, path: Path, facts: dict[str, str]) -> Path:
    import pyarrow
    from pyarrow import parquet

    def batch(features: slice) -> Any:
        parts = [_rows(kind, getattr(statistics, kind), features) for kind in KINDS]
        return pyarrow.concat_tables([pyarrow.table(part) for part in parts])

    schema = batch(slice(0, 0)).schema.with_metadata(facts)
    with _whole(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for first in range(0, statistics.d_sae, EXPORTED_FEATURES):
            writer.write_table(batch(slice(first, first + EXPORTED_FEATURES)).cast(schema))
    return path


def _rows(kind: str, windows: Windows, features: slice) -> dict[str, Any]:
    """Columns of the windows that there are."""
    row, rank = np.nonzero(windows.values[features] > 0)
    row += features.start
    fields = zip(RECORD_FIELDS, Windows.__slots__, strict=True)
    arrays = {name: _array(getattr(windows, field)[row, rank]) for name, field in fields}
    return {"feature": _array(row), "kind": _array(np.full(row.shape[0], kind)), "rank": _array(rank), **arrays}


def _array(value: np.ndarray) -> Any:
    import pyarrow

    flat = pyarrow.array(np.ascontiguousarray(value).reshape(-1))
    return pyarrow.FixedSizeListArray.from_arrays(flat, value.shape[1]) if value.ndim == 2 else flat


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when the block ended well."""
    temporary = path.with_name(f".{path.name}.tmp")
    with told(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
