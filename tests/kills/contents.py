"""What a folder holds, as far as it must not depend on whether a run was killed on its way."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from interp.storage import read_tensors

FREE = re.compile(
    r"created_utc|commit|command|time_unix|tokens_per_s|seconds(_\w+)?|\w+_seconds|saving"
    "|metrics_offset|model and process"
)
"""Entries that tell when, how fast and beside what else something was done, and where metrics of such entries end."""


def contents(folder: Path) -> dict[str, Any]:
    """Relative path of every file, hidden ones too, and of every empty folder -> what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = _held(path)
        elif not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = "empty"
    return found


def differences(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """One line for each file that is missing, too many or different."""
    missing = [f"{name}: missing" for name in expected if name not in got]
    more = [f"{name}: left over" for name in got if name not in expected]
    both = (name for name in expected if name in got)
    other = [f"{name}: {_where(expected[name], got[name])}" for name in both if expected[name] != got[name]]
    return missing + more + other


def timeless(value: Any) -> Any:
    """The same without entries of FREE."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if not FREE.fullmatch(key)}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def _held(path: Path) -> Any:
    match path.suffix:
        case ".json":
            value = timeless(json.loads(path.read_text(encoding="utf-8")))
            # The hash of a checkpoint counts its random state, too.
            return {key: value[key] for key in value if key != "sha256"} if path.name == "state.json" else value
        case ".safetensors":
            return _tensors(path)
        case ".jsonl":
            return [timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        case ".sqlite":
            return _rows(path)
        case ".html":
            # It shows throughput; what it is drawn from is compared.
            return "page"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tensors(path: Path) -> dict[str, tuple[Any, ...]]:
    """Each tensor but the random state, which is another in every process until a checkpoint is taken up."""
    return {
        name: (
            str(x.dtype),
            tuple(x.shape),
            hashlib.sha256(x.contiguous().flatten().view(torch.uint8).numpy()).hexdigest(),
        )
        for name, x in read_tensors(path).items()
        if not name.startswith("rng/")
    }


def _rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as index:
        names = [name for (name,) in index.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(index.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def _where(expected: Any, got: Any, at: str = "") -> str:
    """Where two values first differ."""
    if isinstance(expected, dict) and isinstance(got, dict):
        key = next(key for key in [*expected, *got] if expected.get(key) != got.get(key))
        return _where(expected.get(key), got.get(key), f"{at}.{key}")
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        index = next(index for index, pair in enumerate(zip(expected, got, strict=True)) if pair[0] != pair[1])
        return _where(expected[index], got[index], f"{at}[{index}]")
    return f"{at or 'content'} is {str(got)[:60]}, was {str(expected)[:60]}"
