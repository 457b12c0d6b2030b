"""What every library is given: the same batches, the same initial weights, the same sizes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Task:
    """Sizes and settings of one arm."""

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
    n_batches: int = 8
    seed: int = 0


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
    save_file({**tensors, "encoder": encoder, "decoder": weight, "dead": dead}, folder / "tensors.safetensors")
    (folder / "task.json").write_text(json.dumps(asdict(task)))


def read_task(folder: Path) -> tuple[Task, dict[str, Tensor]]:
    """What `write_task` wrote."""
    values = json.loads((folder / "task.json").read_text())
    return Task(**{**values, "widths": tuple(values["widths"])}), load_file(folder / "tensors.safetensors")
