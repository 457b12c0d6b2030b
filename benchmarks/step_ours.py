"""Our training step on a given task."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from step_task import Task
from torch import Tensor

from interp.code import ActivationBatch
from interp.loop import update
from saes import SAEConfig, create_sae
from saes.optimiser import make_optimiser

Step = Callable[[Tensor], dict[str, float]]


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[Step, Callable[[], dict]]:
    """A function that trains on one batch, and one that gives the final counts."""
    # With the loss a sum over prefixes, the peer's dead-feature weight is not multiplied by their number.
    n_prefixes = len(task.widths) if task.architecture == "matryoshka" else 1
    options = {"aux_coefficient": task.aux_coefficient / n_prefixes, **settings}
    config = SAEConfig(architecture=task.architecture, d_sae=task.f, k=task.k, prefixes=task.widths, **options)
    device = tensors["decoder"].device
    sae = create_sae(config, task.d, hooks_in=("x",), token_budget=task.b * 10**6, device=device)
    with torch.no_grad():
        sae.W_enc.copy_(tensors["encoder"])
        sae.W_dec.copy_(tensors["decoder"])
        sae.tokens_since_fired[tensors["dead"]] = 10**12
    optimiser = make_optimiser(sae, task.lr)
    nothing = torch.zeros(task.b, dtype=torch.int64, device=device)

    def step(x: Tensor) -> dict[str, float]:
        report = sae.losses(ActivationBatch({"x": x}, nothing, nothing, nothing))
        update(sae, optimiser, report, lr=task.lr, clip_norm=task.clip_norm, step=1)
        return {"loss": float(report.terms["loss"]), "mse": float(report.terms["mse"])}

    def counts() -> dict[str, float]:
        return {
            "fallback_share": int(sae.n_fallbacks) / max(int(sae.n_updates), 1),
            "dead_features": int(sae.dead_features().numel()),
        }

    return step, counts


def floor_seconds(task: Task, tensors: Mapping[str, Tensor], clock: Callable[[], float], n: int = 5) -> list[float]:
    """What no step can do without: the encoder's matrix product and one optimiser pass."""
    weight, x = tensors["decoder"], tensors["batch_0"]
    out = torch.empty(task.b, task.f, device=x.device)
    parameters = [torch.nn.Parameter(weight.clone()) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimiser = torch.optim.Adam(parameters, lr=1e-6, fused=True)
    seconds = []
    for _ in range(n):
        begun = clock()
        torch.mm(x, weight.t(), out=out)
        optimiser.step()
        if x.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - begun)
    return seconds
