"""SAELens's training step on a given task: its own trainer, without logging."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from step_task import Task
from torch import Tensor

KINDS: dict[str, tuple[type, type]] = {
    "topk": (TopKTrainingSAEConfig, TopKTrainingSAE),
    "batch_topk": (BatchTopKTrainingSAEConfig, BatchTopKTrainingSAE),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAE),
}

Step = Callable[[Tensor], dict[str, float]]


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[Step, Callable[[], dict]]:
    """A function that trains on one batch, and one that gives the final counts."""
    options = dict(settings)
    autocast, compiled = options.pop("autocast", False), options.pop("compile", False)
    device = str(tensors["decoder"].device)
    config_kind, kind = KINDS[task.architecture]
    if task.architecture == "matryoshka":
        options["matryoshka_widths"] = list(task.widths)
    config = config_kind(
        d_in=task.d,
        d_sae=task.f,
        k=task.k,
        device=device,
        apply_b_dec_to_input=True,
        normalize_activations="none",
        aux_loss_coefficient=task.aux_coefficient,
        **options,
    )
    sae = kind(config)
    with torch.no_grad():
        sae.W_enc.copy_(tensors["encoder"].t())
        sae.W_dec.copy_(tensors["decoder"])
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    if compiled:
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)
    trainer_config = SAETrainerConfig(
        total_training_samples=task.b * 10**6,
        train_batch_size_samples=task.b,
        lr=task.lr,
        lr_end=task.lr,
        device=device,
        autocast=autocast,
        dead_feature_window=10**6,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=trainer_config, sae=sae, data_provider=iter(()))
    trainer.n_forward_passes_since_fired[tensors["dead"]] = 10**9

    def step(x: Tensor) -> dict[str, float]:
        output = trainer.step(x)
        trainer.n_training_steps += 1
        return {"loss": float(output.loss.detach()), "mse": float(output.losses["mse_loss"].detach())}

    return step, lambda: {"dead_features": int(trainer.dead_neurons.sum())}
