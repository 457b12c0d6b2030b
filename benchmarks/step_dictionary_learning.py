"""dictionary_learning's training step on a given task: its own trainers."""

from collections.abc import Mapping
from typing import Any

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import TopKTrainer
from step_task import Task, Trainee
from torch import Tensor

KINDS = {
    "topk": TopKTrainer,
    "batch_topk": BatchTopKTrainer,
    "matryoshka": MatryoshkaBatchTopKTrainer,
    "gated": GatedSAETrainer,
    "jumprelu": JumpReluTrainer,
}
STANDARD = {"free": StandardTrainerAprilUpdate, "unit": StandardTrainer}


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Trainee:
    """Its trainer at a task. `trainer` among the settings names one of the two for standard SAEs."""
    kind = STANDARD[settings["trainer"]] if task.architecture == "standard" else KINDS[task.architecture]
    trainer: Any = kind(
        steps=10**6,
        activation_dim=task.d,
        dict_size=task.f,
        layer=0,
        lm_name="none",
        lr=task.lr,
        warmup_steps=0,
        device=str(tensors["decoder"].device),
        **own_options(task),
    )
    counted = hasattr(trainer, "num_tokens_since_fired")
    if counted:
        trainer.dead_feature_threshold = 10**12
        trainer.num_tokens_since_fired[tensors["dead"]] = 10**13
    fill(trainer.ae, tensors, task)
    count = 0

    def step(index: int) -> dict[str, float]:
        nonlocal count
        loss = trainer.update(count, tensors[f"batch_{index}"])
        if count == 0:
            # The first update of some replaces b_dec by the geometric median; the weights are set anew after it.
            fill(trainer.ae, tensors, task)
        count += 1
        # Two of its trainers do not tell their loss.
        return {"loss": float("nan") if loss is None else float(loss), "mse": float("nan")}

    @torch.no_grad()
    def l0(index: int) -> float:
        options = {"use_threshold": False} if task.architecture in ("batch_topk", "matryoshka") else {}
        return int((trainer.ae.encode(tensors[f"batch_{index}"], **options) != 0).sum()) / task.b

    return Trainee(step, l0)


def own_options(task: Task) -> dict[str, Any]:
    """What only the trainer of this architecture takes."""
    match task.architecture:
        case "standard" | "gated":
            return {"l1_penalty": task.penalty, "sparsity_warmup_steps": 0}
        case "jumprelu":
            # Its penalty is the squared relative distance from a wanted L0, with a weight of its own.
            return {"target_l0": task.l0, "bandwidth": task.bandwidth, "sparsity_warmup_steps": 0}
        case "matryoshka":
            sizes = [high - low for low, high in zip((0, *task.widths), task.widths, strict=False)]
            fractions: dict[str, Any] = {"group_fractions": [size / task.f for size in sizes]}
            return {"k": task.k, "auxk_alpha": task.aux_coefficient, **fractions}
    return {"k": task.k, "auxk_alpha": task.aux_coefficient}


@torch.no_grad()
def fill(ae: torch.nn.Module, tensors: Mapping[str, Tensor], task: Task) -> None:
    """Set the task's weights, by the names that the kinds of dictionaries have for them."""
    encoder, decoder = tensors["encoder"], tensors["decoder"]
    cut = tensors.get("cut", encoder.new_zeros(1)).expand(task.f)
    given = {
        "W_enc": encoder.t(),
        "W_dec": decoder,
        "encoder.weight": encoder,
        "decoder.weight": decoder.t(),
        "threshold": cut,
        "gate_bias": -cut,
        "encoder.bias": -cut,
    }
    for name, parameter in ae.named_parameters():
        parameter.copy_(given.get(name, torch.zeros_like(parameter)))
