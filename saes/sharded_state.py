"""The state of a dictionary on several ranks: put together at rank 0 as one process has it, and taken apart again.

What is saved is thus the same on any number of ranks, and any number of ranks can go on from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from interp.checkpoints import TrainState
from interp.errors import ArtifactError
from saes.base import SAE
from saes.sharded import ShardedSAE

COUNTERS = ("tokens_since_fired",)
"""Buffers that have a row for each feature."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A state that is to be handed out: what all get whole, and shape and format of what is cut into rows."""

    head: dict[str, Any]
    whole: dict[str, Tensor]
    cut: dict[str, tuple[tuple[int, ...], torch.dtype]]


def gather_state(state: TrainState, task: ShardedSAE, optimiser: torch.optim.Optimizer) -> TrainState:
    """The state of the whole, on rank 0's CPU; the other ranks keep that of their parts."""
    rows = _rows(task, optimiser)
    tensors, slots = (_gathered(task, held, rows) for held in (state.tensors, state.optimiser))
    return replace(state, tensors=tensors, optimiser=slots)


def gather_weights(task: ShardedSAE) -> dict[str, Tensor]:
    """The state dict of the whole SAE, at rank 0; that of the part elsewhere."""
    return _gathered(task, task.own.state_dict(), _rows(task))


def scatter_state(load: Callable[[], TrainState], task: ShardedSAE, optimiser: torch.optim.Optimizer) -> TrainState:
    """This rank's part of the state that rank 0 loads.

    Raises: at every rank, what `load` raises at rank 0; ArtifactError if the state is of another dictionary.
    """
    rows, held = _rows(task, optimiser), dict[str, Tensor]()

    def take() -> _Taken:
        state = load()
        _check(state.tensors, task)
        held.update({f"tensors/{name}": x for name, x in state.tensors.items()})
        held.update({f"optimiser/{name}": x for name, x in state.optimiser.items()})
        head = {"step": state.step, "n_tokens": state.n_tokens, "metrics_offset": state.metrics_offset}
        return _taken({**head, "cursor": dict(state.cursor), "rng": dict(state.rng)}, held, rows)

    taken = task.ranks.from_first(take)
    parts = _scattered(task, taken, held)

    def group(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}/"): x for key, x in parts.items() if key.startswith(f"{name}/")}

    return TrainState(tensors=group("tensors"), optimiser=group("optimiser"), **taken.head)


def scatter_weights(make: Callable[[], SAE], task: ShardedSAE) -> None:
    """Fill every rank's part from the whole SAE that rank 0 makes, on its CPU.

    Raises: at every rank, what `make` raises at rank 0.
    """
    rows, held = _rows(task), dict[str, Tensor]()

    def take() -> _Taken:
        held.update(make().state_dict())
        return _taken({}, held, rows)

    taken = task.ranks.from_first(take)
    task.load_state_dict(_scattered(task, taken, held))


def _rows(task: ShardedSAE, optimiser: torch.optim.Optimizer | None = None) -> set[str]:
    """Names of what has a row for each feature: of tensors, and of the optimiser's slots by their parameter's index."""
    own = task.own
    names = {*own.sparse_parameters, *COUNTERS}
    if optimiser is None:
        return names
    cut = {id(own.get_parameter(name)) for name in own.sparse_parameters}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    return names | {str(index) for index, parameter in enumerate(parameters) if id(parameter) in cut}


def _is_cut(name: str, x: Tensor, rows: set[str]) -> bool:
    # An optimiser's count of steps belongs to a parameter, and has no rows.
    return name.rsplit("/", 1)[-1].split(".", 1)[0] in rows and x.ndim > 0


def _gathered(task: ShardedSAE, tensors: Mapping[str, Tensor], rows: set[str]) -> dict[str, Tensor]:
    found = {}
    for name, x in tensors.items():
        whole = task.ranks.gather_rows(x, task.config.d_sae) if _is_cut(name, x, rows) else None
        found[name] = x if whole is None else whole
    return found


def _taken(head: dict[str, Any], held: Mapping[str, Tensor], rows: set[str]) -> _Taken:
    cut = {name: (tuple(x.shape), x.dtype) for name, x in held.items() if _is_cut(name, x, rows)}
    return _Taken(head, {name: x.cpu() for name, x in held.items() if name not in cut}, cut)


def _scattered(task: ShardedSAE, taken: _Taken, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parts = {name: task.ranks.scatter_rows(held.get(name), shape, dtype) for name, (shape, dtype) in taken.cut.items()}
    return {**taken.whole, **parts}


def _check(tensors: Mapping[str, Tensor], task: ShardedSAE) -> None:
    """Raises: ArtifactError if the tensors of a state are not those of the whole."""
    rows, f = _rows(task), task.config.d_sae
    own = task.own.state_dict()
    expected = {name: (f, *x.shape[1:]) if _is_cut(name, x, rows) else tuple(x.shape) for name, x in own.items()}
    got = {name: tuple(x.shape) for name, x in tensors.items()}
    if expected != got:
        name = next(name for name in expected | got if expected.get(name) != got.get(name))
        raise ArtifactError(
            f"checkpoint holds {name} with shape {got.get(name)}; this config expects {expected.get(name)}; "
            "resume with the config that the run was started with"
        )
