"""Bit-exact checkpoints: all that a run needs to go on as if it had never stopped.

Layout: checkpoints/step_N/{state.safetensors, state.json} and checkpoints/latest, which moves last.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import ArtifactError
from interp.loop import BatchSource, Trainable
from interp.storage import (
    make_folder,
    new_folder,
    read_json,
    read_tensors,
    restore_folder,
    write_json,
    write_tensors,
    write_text,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class TrainState:
    """Whatever is not in here is not state.

    Units: step and n_tokens finished so far; metrics_offset bytes of metrics.jsonl written so far.
    """

    step: int
    n_tokens: int
    tensors: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    cursor: Mapping[str, int]
    metrics_offset: int


def take_state(
    task: Trainable,
    optimiser: torch.optim.Optimizer,
    batches: BatchSource,
    *,
    step: int,
    n_tokens: int,
    metrics_offset: int,
) -> TrainState:
    """The state of a run between two steps. Tensors are views: save before the next step."""
    slots = {
        f"{index}.{slot}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, state in optimiser.state_dict()["state"].items()
        for slot, value in state.items()
    }
    rng = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return TrainState(step, n_tokens, task.state_dict(), slots, rng, batches.cursor(), metrics_offset)


def restore_state(state: TrainState, task: Trainable, optimiser: torch.optim.Optimizer, batches: BatchSource) -> None:
    """Put a state back into a freshly built task, optimiser and batch source.

    Raises: ArtifactError if the checkpoint's tensors do not fit the task.
    """
    expected = {name: tuple(value.shape) for name, value in task.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in state.tensors.items()}
    if expected != got:
        name = next(name for name in expected | got if expected.get(name) != got.get(name))
        raise ArtifactError(
            f"checkpoint holds {name} with shape {got.get(name)}; this config expects {expected.get(name)}; "
            "resume with the config that the run was started with"
        )
    task.load_state_dict(dict(state.tensors))
    packed = optimiser.state_dict()
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in state.optimiser.items():
        index, slot = key.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    packed["state"] = slots
    optimiser.load_state_dict(packed)
    torch.set_rng_state(state.rng["cpu"])
    for device in range(torch.cuda.device_count()):
        if f"cuda{device}" in state.rng:
            torch.cuda.set_rng_state(state.rng[f"cuda{device}"], device)
    batches.seek(state.cursor)


def save_checkpoint(folder: Path, state: TrainState, *, keep: int = 2) -> Path:
    """Write checkpoints/step_N, move `latest` to it, then drop all but the newest `keep`.

    Raises: StorageError if the disk is full or unwritable; earlier checkpoints are then intact.
    """
    make_folder(folder)
    path = folder / f"step_{state.step}"
    tensors = {
        f"{group}/{name}": value
        for group, members in (("task", state.tensors), ("optimiser", state.optimiser), ("rng", state.rng))
        for name, value in members.items()
    }
    with new_folder(path) as temporary:
        digest = write_tensors(temporary / "state.safetensors", tensors)
        write_json(
            temporary / "state.json",
            {
                "schema_version": SCHEMA_VERSION,
                "step": state.step,
                "n_tokens": state.n_tokens,
                "cursor": dict(state.cursor),
                "metrics_offset": state.metrics_offset,
                "sha256": digest,
            },
        )
    write_text(folder / "latest", path.name + "\n")
    others = [other for other in list_checkpoints(folder) if other != path]
    _drop(folder, others, keep - 1)
    return path


def drop_old(folder: Path, *, step: int, keep: int) -> None:
    """Of the checkpoints up to `step` leave the newest `keep`: a kill may have come before the last one did so."""
    _drop(folder, [path for path in list_checkpoints(folder) if step_of(path) <= step], keep)


def _drop(folder: Path, found: list[Path], keep: int) -> None:
    for old in [*found[: max(0, len(found) - keep)], *folder.glob(".step_*.tmp")]:
        shutil.rmtree(old, ignore_errors=True)


def step_of(path: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(path.name.removeprefix("step_"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted((path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.name)), key=step_of)


def latest_checkpoint(folder: Path) -> Path | None:
    """Where `latest` points; None if nothing was saved yet.

    Raises: ArtifactError if it points nowhere.
    """
    pointer = folder / "latest"
    if not pointer.exists():
        return None
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if re.fullmatch(r"step_\d+", name):
        # A kill may have left it aside while it was written anew.
        restore_folder(folder / name)
    for path in list_checkpoints(folder):
        if path.name == name:
            return path
    raise ArtifactError(f"{pointer}: points to {name[:40]!r}, which is not there; {_others(folder, pointer)}")


def load_checkpoint(path: Path) -> TrainState:
    """Read one checkpoint folder.

    Raises: ArtifactError naming the damaged file and the checkpoints that can be resumed from instead.
    """
    try:
        head: dict[str, Any] = read_json(path / "state.json")
        if not isinstance(head, dict) or head["schema_version"] != SCHEMA_VERSION:
            raise ArtifactError(f"{path / 'state.json'}: not a checkpoint of schema version {SCHEMA_VERSION}")
        tensors = read_tensors(path / "state.safetensors", sha256=head["sha256"])
        groups: dict[str, dict[str, Tensor]] = {"task": {}, "optimiser": {}, "rng": {}}
        for key, value in tensors.items():
            group, name = key.split("/", 1)
            groups[group][name] = value
        return TrainState(
            head["step"],
            head["n_tokens"],
            groups["task"],
            groups["optimiser"],
            groups["rng"],
            head["cursor"],
            head["metrics_offset"],
        )
    except KeyError as error:
        raise ArtifactError(f"{path / 'state.json'}: no {error} in it; {_others(path.parent, path)}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{error}; {_others(path.parent, path)}") from None


def _others(folder: Path, damaged: Path) -> str:
    others = [path.name for path in list_checkpoints(folder) if path.name != damaged.name]
    if not others:
        return "there is no other checkpoint: start the run anew"
    return f"give --resume-from {others[-1]} to go on from the newest other checkpoint"
