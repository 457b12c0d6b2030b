"""sparsify's training step on a given task: its coder, and a step as its trainer runs one on activations.

Its trainer takes a language model, so what its `fit` does to a batch of activations is done here with its own parts.
Its Adam is the 8-bit one of bitsandbytes where that is installed, else torch's; here it is torch's, fused. Left out are
its warm-up, copies of what the model gives, and the decoder bias that begins as the mean of the first batch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sparsify.sparse_coder
import torch
from sparsify.config import SparseCoderConfig
from sparsify.sign_sgd import SignSGD
from sparsify.sparse_coder import SparseCoder
from sparsify.utils import eager_decode
from step_task import Task, Trainee, first_moments
from torch import Tensor

DEAD_AFTER = 10_000_000
"""Tokens without firing after which its trainer takes a feature for dead, unless told otherwise."""


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Trainee:
    """sparsify's coder at a task.

    Besides those of its config: lr, optimiser (adam, or signum, which is its default), and eager (torch's embedding bag
    as its decoder in place of its Triton kernels).
    """
    # As its trainer does: what is not in the forward pass may use tensor cores too.
    torch.set_float32_matmul_precision("high")
    options = dict(settings)
    lr, name, eager = options.pop("lr", task.lr), options.pop("optimiser", "adam"), options.pop("eager", False)
    # Its kernels are chosen wherever Triton is installed, also where there is no GPU to run them.
    if eager or tensors["decoder"].device.type == "cpu":
        sparsify.sparse_coder.decoder_impl = eager_decode
    coder = new_coder(task, tensors, options)
    optimiser = new_optimiser(name, coder, lr)
    train_on = step_of(task, coder, optimiser, tensors["dead"])

    def step(index: int) -> dict[str, float]:
        return train_on(tensors[f"batch_{index}"], tensors.get(f"output_{index}"))

    @torch.no_grad()
    def l0(index: int) -> float:
        return int((coder.encode(tensors[f"batch_{index}"]).top_acts != 0).sum()) / task.b

    def moments() -> dict[str, float]:
        return first_moments(optimiser, encoder=coder.encoder.weight, decoder=coder.W_dec) if name == "adam" else {}

    return Trainee(step, l0, moments=moments)


def step_of(
    task: Task, coder: SparseCoder, optimiser: Any, dead: Tensor
) -> Callable[[Tensor, Tensor | None], dict[str, float]]:
    """What `Trainer.fit` does in a step without accumulation: its hook, then its update.

    Its loss is a fraction of variance unexplained; `mse` is the same per token, as the other libraries tell it.
    """
    auxiliary = task.aux_coefficient
    fires = torch.zeros_like(dead)
    since_fired = torch.where(dead, 10**12, 0)

    def step(x: Tensor, y: Tensor | None) -> dict[str, float]:
        unit = coder.cfg.normalize_decoder and not coder.cfg.transcode
        target = x if y is None else y
        if unit:
            coder.set_decoder_norm_to_unit_norm()
        dead_mask = since_fired > DEAD_AFTER if auxiliary > 0 else None
        variance = (target - target.mean(0)).pow(2).sum()
        out = coder(x=x, y=target, dead_mask=dead_mask, total_variance=variance)
        fires[out.latent_indices.flatten()] = True
        fvu = float(out.fvu.detach())
        extra = float(out.auxk_loss.detach()) if auxiliary > 0 else 0.0
        loss = out.fvu + auxiliary * out.auxk_loss + out.multi_topk_fvu / 8
        loss.backward()
        if unit:
            coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            since_fired.add_(x.shape[0])
            since_fired[fires] = 0
            fires.zero_()
        return {"loss": float(loss.detach()), "mse": fvu * float(variance) / x.shape[0], "extra": auxiliary * extra}

    return step


def new_coder(task: Task, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> SparseCoder:
    """sparsify's coder with the task's weights."""
    if task.architecture not in ("topk", "transcoder"):
        raise ValueError(f"architecture {task.architecture!r}: sparsify trains topk and transcoder only.")
    config = SparseCoderConfig(num_latents=task.f, k=task.k, transcode=task.architecture == "transcoder", **options)
    coder = SparseCoder(task.d, config, device=tensors["decoder"].device, dtype=torch.float32)
    with torch.no_grad():
        coder.encoder.weight.copy_(tensors["encoder"])
        coder.W_dec.copy_(tensors["decoder"])
        coder.b_dec.zero_()
    return coder


def new_optimiser(name: str, coder: SparseCoder, lr: float) -> Any:
    """Adam, or its schedule-free sign descent with the momentum of its trainer."""
    if name == "adam":
        return torch.optim.Adam(coder.parameters(), lr=lr, fused=True)
    from schedulefree import ScheduleFreeWrapper

    optimiser = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr=lr), momentum=0.95)
    optimiser.train()
    return optimiser
