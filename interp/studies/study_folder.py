"""What a study's folder was begun with, and how long its runs took."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

from interp.config import Config, read_yaml
from interp.errors import ConfigError
from interp.recording import STRETCHES
from interp.runs import RunFolder, differences
from interp.storage import holds_text, make_folder, write_text


def keep_settings(
    config: Config, path: Path, inputs: Mapping[Path, str], *, may_differ: Collection[str] = ("out",)
) -> None:
    """Write a study's settings, and its inputs, where they are not there yet; some settings may be others than then.

    Those stay as they were: they repeat the results that are there, and the study replaces both together.

    Raises: ConfigError if others are there; nothing is then written.
    """
    kept = path.exists()
    if kept:
        old = yaml.safe_load(type(config).parse(read_yaml(path), source=str(path)).to_yaml())
        for name, was, is_now in differences(old, yaml.safe_load(config.to_yaml())):
            if name not in may_differ:
                raise ConfigError(f"{path}: was begun with {name} = {was!r}; got {is_now!r}; give another --out")
    for file, text in inputs.items():
        if file.exists() and not holds_text(file, text):
            raise ConfigError(f"{file}: is not what these settings write; give another --out, or those of before")
    make_folder(path.parent)
    # The settings last: where they are, the inputs are too.
    for file, text in ({**inputs} if kept else {**inputs, path: config.to_yaml()}).items():
        if not file.exists():
            write_text(file, text)


def training_seconds(run: RunFolder) -> float:
    """Seconds that a run's steps took, each step counted once however often the run was gone on with."""
    rows = map(json.loads, run.metrics_path.read_text(encoding="utf-8").splitlines())
    return float(sum(row.get(f"seconds_{name}", 0.0) for row in rows for name in STRETCHES))
