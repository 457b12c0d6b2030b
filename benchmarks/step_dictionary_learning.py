"""dictionary_learning's training step on a given task: its own trainers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from step_task import Task
from torch import Tensor

KINDS = {"topk": TopKTrainer, "batch_topk": BatchTopKTrainer, "matryoshka": MatryoshkaBatchTopKTrainer}

Step = Callable[[Tensor], dict[str, float]]


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[Step, Callable[[], dict]]:
    """A function that trains on one batch, and one that gives the final counts."""
    options = dict(settings)
    if task.architecture == "matryoshka":
        sizes = [high - low for low, high in zip((0, *task.widths), task.widths, strict=False)]
        options["group_fractions"] = [size / task.f for size in sizes]
    trainer = KINDS[task.architecture](
        steps=10**6,
        activation_dim=task.d,
        dict_size=task.f,
        k=task.k,
        layer=0,
        lm_name="none",
        lr=task.lr,
        warmup_steps=0,
        auxk_alpha=task.aux_coefficient,
        device=str(tensors["decoder"].device),
        **options,
    )
    trainer.dead_feature_threshold = 10**12
    trainer.num_tokens_since_fired[tensors["dead"]] = 10**13
    count = 0

    def step(x: Tensor) -> dict[str, float]:
        nonlocal count
        loss = trainer.update(count, x)
        if count == 0:
            # Its first update replaces b_dec by the geometric median; the weights are set after it.
            _fill(trainer.ae, tensors)
        count += 1
        return {"loss": float(loss), "mse": float("nan")}

    return step, dict


@torch.no_grad()
def _fill(ae: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    encoder, decoder = tensors["encoder"], tensors["decoder"]
    if hasattr(ae, "W_enc"):
        ae.W_enc.copy_(encoder.t())
        ae.W_dec.copy_(decoder)
        ae.b_enc.zero_()
    else:
        ae.encoder.weight.copy_(encoder)
        ae.decoder.weight.copy_(decoder.t())
        ae.encoder.bias.zero_()
    ae.b_dec.zero_()
