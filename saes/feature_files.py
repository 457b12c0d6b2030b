"""Feature statistics on disk: features.json, statistics.safetensors and windows.bin (fixed-size records)."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.errors import ArtifactError
from interp.storage import new_folder, read_json, read_tensors, told, write_json, write_tensors
from saes.feature_statistics import FeatureStatistics
from saes.feature_windows import KINDS, map_windows

SCHEMA_VERSION = 2
HEAD_FILE, ARRAYS_FILE, WINDOWS_FILE = "features.json", "statistics.safetensors", "windows.bin"
COUNTS = ("n_tokens", "n_documents", "d_sae", "n_coactivation_tokens")
OPTIONAL = ("hook_share",)
"""Arrays that only some dictionaries have."""
ARRAYS = tuple(field.name for field in fields(FeatureStatistics) if field.name not in (*COUNTS, *KINDS, *OPTIONAL))
WRITTEN_FEATURES = 1024


def save_features(folder: Path, statistics: FeatureStatistics) -> None:
    """Write statistics that stand in memory; the folder appears whole or not at all.

    Raises: StorageError if it cannot be written.
    """
    with new_folder(folder) as temporary:
        with told(folder), (temporary / WINDOWS_FILE).open("wb") as file:
            for first in range(0, statistics.d_sae, WRITTEN_FEATURES):
                records = [getattr(statistics, kind).records()[first : first + WRITTEN_FEATURES] for kind in KINDS]
                file.write(np.concatenate(records, axis=1).tobytes())
        layout = {kind: getattr(statistics, kind).values.shape[1] for kind in KINDS}
        arrays = {name: getattr(statistics, name) for name in (*COUNTS, *ARRAYS, *OPTIONAL)}
        write_head(temporary, arrays, layout | {"width": statistics.top.tokens.shape[2]})


def write_head(
    folder: Path, values: Mapping[str, Any], layout: Mapping[str, int], provenance: Mapping[str, Any] | None = None
) -> None:
    """Write everything but the windows; features.json comes last, so that what it names is there.

    Raises: StorageError if it cannot be written.
    """
    names = (*ARRAYS, *(name for name in OPTIONAL if values.get(name) is not None))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values[name])) for name in names}
    digest = write_tensors(folder / ARRAYS_FILE, tensors)
    head = {"schema_version": SCHEMA_VERSION, **{name: int(values[name]) for name in COUNTS}}
    more = {"windows": dict(layout), "sha256": digest, "provenance": dict(provenance or {})}
    write_json(folder / HEAD_FILE, head | more)


def load_features(folder: Path) -> FeatureStatistics:
    """Read a features folder; the windows stay on disk and are mapped into memory.

    Raises: ArtifactError naming the file that is missing, damaged or of another version.
    """
    head = read_head(folder)
    tensors = read_tensors(folder / ARRAYS_FILE, sha256=head.get("sha256"))
    missing = sorted((set(ARRAYS) - set(tensors)) | ({*COUNTS, "windows"} - set(head)))
    if missing:
        raise ArtifactError(f"{folder}: holds no {missing[0]}; collect the features again")
    values: dict[str, Any] = {name: int(head[name]) for name in COUNTS}
    values |= {name: tensors[name].numpy() for name in (*ARRAYS, *OPTIONAL) if name in tensors}
    values |= map_windows(folder / WINDOWS_FILE, values["d_sae"], head["windows"])
    return FeatureStatistics(**values)


def read_head(folder: Path) -> dict[str, Any]:
    """What features.json says: version, counts, layout of the windows, provenance.

    Raises: ArtifactError if it is missing, damaged or of another version.
    """
    head = read_json(folder / HEAD_FILE)
    if not isinstance(head, dict) or head.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{folder / HEAD_FILE}: not version {SCHEMA_VERSION}; collect the features again with `interp features`"
        )
    return head
