"""Our training step on a given task."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from step_task import Task, Trainee, first_moments
from torch import Tensor

from interp.code import ActivationBatch
from interp.loop import one_step
from saes import SAE, SAEConfig, create_sae
from saes.optimiser import make_optimiser


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Trainee:
    """Our SAE and its optimiser at a task. Besides those of SAEConfig: lr, and one_lr (thresholds learn no faster)."""
    options = dict(settings)
    lr, one_lr = options.pop("lr", task.lr), options.pop("one_lr", False)
    sae = new_sae(task, tensors, options)
    optimiser = make_optimiser(sae, lr)
    if one_lr:
        for group in optimiser.param_groups:
            group["lr_scale"] = 1.0
    nothing = torch.zeros(task.b, dtype=torch.int64, device=sae.W_enc.device)

    def batch(index: int) -> ActivationBatch:
        names = {"x": f"batch_{index}", "y": f"output_{index}"}
        found = {hook: tensors[name] for hook, name in names.items() if name in tensors}
        return ActivationBatch(found, nothing, nothing, nothing)

    def step(index: int) -> dict[str, float]:
        report, _ = one_step(sae, optimiser, batch(index), lr=lr, clip_norm=task.clip_norm, step=1)
        terms = {name: float(report.terms[name]) for name in ("loss", "mse", "extra") if name in report.terms}
        if "penalty" in report.terms:
            terms["penalty"] = float(report.terms["penalty"] * report.terms["penalty_weight"])
        return terms

    def counts() -> dict[str, float]:
        return {
            "fallback_share": int(sae.n_fallbacks) / max(int(sae.n_updates), 1),
            "dead_features": int(sae.dead_features().numel()),
        }

    def l0(index: int) -> float:
        with torch.no_grad():
            return float(sae.losses(batch(index)).terms["l0"])

    return Trainee(step, l0, counts, lambda: first_moments(optimiser, encoder=sae.W_enc, decoder=sae.W_dec))


def new_sae(task: Task, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> SAE:
    """An SAE with the task's weights."""
    architecture = "topk" if task.architecture == "transcoder" else task.architecture
    widths = task.widths if architecture == "matryoshka" else ()
    settings = {
        # With the loss a sum over prefixes, the peer's dead-feature weight is not multiplied by their number.
        "aux_coefficient": task.aux_coefficient / max(len(widths), 1),
        "prefixes": widths,
        "k": task.k,
        "l0_control": False,
        "l1_coefficient": task.penalty,
        "penalty_warmup_share": 0.0,
        "bandwidth": task.bandwidth,
        **options,
    }
    config = SAEConfig(architecture=architecture, d_sae=task.f, **settings)
    where: dict[str, Any] = {"token_budget": task.b * 10**6, "device": tensors["decoder"].device}
    if task.architecture == "transcoder":
        where |= {"hooks_out": ("y",), "d_out": task.d}
    sae = create_sae(config, task.d, hooks_in=("x",), **where)
    with torch.no_grad():
        sae.W_enc.copy_(tensors["encoder"])
        sae.W_dec.copy_(tensors["decoder"])
        sae.tokens_since_fired[tensors["dead"]] = 10**12
        if architecture == "jumprelu":
            sae.threshold.copy_(tensors["cut"].expand(task.f))
        elif "cut" in tensors:
            sae.b_enc.copy_(-tensors["cut"].expand(task.f))
    return sae


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
