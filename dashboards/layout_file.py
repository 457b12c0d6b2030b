"""The decoder's map beside the feature statistics: layout.json."""

from pathlib import Path

import numpy as np

from dashboards.decoder_layout import DecoderLayout
from dashboards.numbers import five_digits
from interp.errors import ArtifactError
from interp.storage import read_json, write_json

LAYOUT_FILE = "layout.json"
SCHEMA_VERSION = 1
_SHARES = ("kept", "kept_by_pca", "kept_by_chance")


def save_layout(features_folder: Path, layout: DecoderLayout) -> Path:
    """Write layout.json.

    Raises: StorageError if the folder cannot be written.
    """
    path = features_folder / LAYOUT_FILE
    places = {"x": five_digits(layout.x), "y": five_digits(layout.y)}
    shares = dict(zip(_SHARES, five_digits(np.array([getattr(layout, name) for name in _SHARES])), strict=True))
    write_json(path, {"schema_version": SCHEMA_VERSION, **shares, **places})
    return path


def load_layout(features_folder: Path, d_sae: int) -> DecoderLayout | None:
    """The layout that `save_layout` wrote; None if it never ran.

    Raises: ArtifactError if the file is damaged, of another version or of another dictionary.
    """
    path = features_folder / LAYOUT_FILE
    if not path.exists():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: not version {SCHEMA_VERSION}; delete it and make the report again")
    x, y = (np.array(found.get(axis, []), dtype=np.float64) for axis in "xy")
    if x.shape != (d_sae,) or y.shape != (d_sae,):
        raise ArtifactError(f"{path}: got {x.size} places; expected {d_sae}; delete it and make the report again")
    shares = (float("nan") if found.get(name) is None else float(found[name]) for name in _SHARES)
    return DecoderLayout(x, y, *shares)
