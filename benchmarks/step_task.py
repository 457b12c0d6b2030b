"""What every library is given: the same batches, the same initial weights, the same sizes; and what it gives back.

Axes: b tokens, d width of the activations, f features.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Task:
    """Sizes and settings of one arm. `l0` features fire at the start where a penalty holds them down, else `k`."""

    architecture: str
    d: int = 512
    f: int = 8192
    k: int = 32
    b: int = 2048
    widths: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    lr: float = 3e-4
    clip_norm: float = 1.0
    aux_coefficient: float = 1 / 32
    dead_share: float = 0.0
    l0: float = 32.0
    penalty: float = 0.0
    bandwidth: float = 0.05
    n_batches: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trainee:
    """A library at a task. `step` trains on the batch of that number and gives its terms; the others are not timed.

    `counts` are final counts, `l0` is what fires on a batch as it does in training; `moments` are norms of Adam's first
    moments, which after one step say how large the gradients of encoder and decoder were.
    """

    step: Callable[[int], dict[str, float]]
    l0: Callable[[int], float]
    counts: Callable[[], dict[str, float]] = dict
    moments: Callable[[], dict[str, float]] = dict


def first_moments(optimiser: torch.optim.Optimizer, **parameters: Tensor) -> dict[str, float]:
    """Norms of Adam's first moments by the names given."""
    state: Mapping[Any, Any] = optimiser.state
    return {name: float(state[parameter]["exp_avg"].norm()) for name, parameter in parameters.items()}


def write_task(folder: Path, task: Task) -> None:
    """Batches from a sparse linear model with log-normal norms, and tied unit-norm initial weights."""
    generator = torch.Generator().manual_seed(task.seed)
    atoms = torch.nn.functional.normalize(torch.randn(task.f // 2, task.d, generator=generator), dim=1)
    frequency = 40 / atoms.shape[0] * torch.randn(atoms.shape[0], generator=generator).exp() / 1.65
    tensors = {}
    for index in range(task.n_batches):
        fires = torch.rand(task.b, atoms.shape[0], generator=generator) < frequency
        acts = fires * torch.rand(task.b, atoms.shape[0], generator=generator) * 4
        norms = (0.3 * torch.randn(task.b, 1, generator=generator)).exp()
        tensors[f"batch_{index}"] = (acts @ atoms) * norms + 0.1 * torch.randn(task.b, task.d, generator=generator)
    weight = torch.nn.functional.normalize(torch.randn(task.f, task.d, generator=generator), dim=1)
    dead = torch.zeros(task.f, dtype=torch.bool)
    dead[torch.randperm(task.f, generator=generator)[: round(task.dead_share * task.f)]] = True
    # Faint features: half of their pre-activations are positive, none is ever among the k largest.
    encoder = weight * torch.where(dead, 0.02, 1.0)[:, None]
    if task.penalty > 0:
        tensors["cut"] = cut(tensors["batch_0"], encoder, task.l0)
    if task.architecture == "transcoder":
        tensors |= outputs(tensors, generator)
    save_file({**tensors, "encoder": encoder, "decoder": weight, "dead": dead}, folder / "tensors.safetensors")
    (folder / "task.json").write_text(json.dumps(asdict(task)))


def cut(x: Tensor, encoder: Tensor, l0: float) -> Tensor:
    """The number that `l0` pre-activations of a token exceed on average, as a vector of one."""
    return (x @ encoder.t()).flatten().topk(round(l0 * x.shape[0])).values[-1:].clone()


def outputs(batches: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """What a random two-layer network, as wide as its input, makes of each batch."""
    d = batches["batch_0"].shape[1]
    first, second = (torch.randn(d, d, generator=generator) / d**0.5 for _ in range(2))
    return {name.replace("batch", "output"): torch.relu(x @ first) @ second for name, x in batches.items()}


def read_task(folder: Path) -> tuple[Task, dict[str, Tensor]]:
    """What `write_task` wrote."""
    values = json.loads((folder / "task.json").read_text())
    return Task(**{**values, "widths": tuple(values["widths"])}), load_file(folder / "tensors.safetensors")
