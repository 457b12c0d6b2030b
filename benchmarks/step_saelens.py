"""SAELens's training step on a given task: its own trainer, without logging."""

from collections.abc import Mapping
from typing import Any

import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedTrainingSAE, GatedTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from step_task import Task, Trainee, first_moments
from torch import Tensor

KINDS: dict[str, tuple[type, type]] = {
    "topk": (TopKTrainingSAEConfig, TopKTrainingSAE),
    "batch_topk": (BatchTopKTrainingSAEConfig, BatchTopKTrainingSAE),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAE),
    "standard": (StandardTrainingSAEConfig, StandardTrainingSAE),
    "gated": (GatedTrainingSAEConfig, GatedTrainingSAE),
    "jumprelu": (JumpReLUTrainingSAEConfig, JumpReLUTrainingSAE),
}
TERMS = {"l1_loss": "penalty", "l0_loss": "penalty", "auxiliary_reconstruction_loss": "extra"}


def build(task: Task, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Trainee:
    """SAELens's trainer at a task. Besides those of its config: lr, autocast and compile."""
    options = dict(settings)
    autocast, compiled = options.pop("autocast", False), options.pop("compile", False)
    lr = options.pop("lr", task.lr)
    sae = new_sae(task, tensors, options)
    if compiled:
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)
    trainer_config = SAETrainerConfig(
        total_training_samples=task.b * 10**6,
        train_batch_size_samples=task.b,
        lr=lr,
        lr_end=lr,
        device=str(tensors["decoder"].device),
        autocast=autocast,
        dead_feature_window=10**6,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=trainer_config, sae=sae, data_provider=iter(()))
    trainer.n_forward_passes_since_fired[tensors["dead"]] = 10**9

    def step(index: int) -> dict[str, float]:
        output = trainer.step(tensors[f"batch_{index}"])
        trainer.n_training_steps += 1
        terms = {"loss": float(output.loss.detach()), "mse": float(output.losses["mse_loss"].detach())}
        return terms | {TERMS[name]: float(value.detach()) for name, value in output.losses.items() if name in TERMS}

    @torch.no_grad()
    def l0(index: int) -> float:
        acts = sae.encode(tensors[f"batch_{index}"])
        return int((acts.to_dense() != 0).sum()) / task.b

    return Trainee(
        step,
        l0,
        lambda: {"dead_features": int(trainer.dead_neurons.sum())},
        lambda: first_moments(trainer.optimizer, encoder=sae.W_enc, decoder=sae.W_dec),
    )


def new_sae(task: Task, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> torch.nn.Module:
    """SAELens's SAE with the task's weights."""
    config_kind, kind = KINDS[task.architecture]
    config = config_kind(
        d_in=task.d,
        d_sae=task.f,
        device=str(tensors["decoder"].device),
        apply_b_dec_to_input=True,
        normalize_activations="none",
        **own_options(task),
        **options,
    )
    sae = kind(config)
    with torch.no_grad():
        sae.W_enc.copy_(tensors["encoder"].t())
        sae.W_dec.copy_(tensors["decoder"])
        sae.b_dec.zero_()
        if task.architecture == "standard":
            sae.b_enc.copy_(-tensors["cut"].expand(task.f))
        elif task.architecture == "gated":
            sae.b_gate.copy_(-tensors["cut"].expand(task.f))
        elif task.architecture == "jumprelu":
            sae.threshold.copy_(tensors["cut"].expand(task.f))
    return sae


def own_options(task: Task) -> dict[str, Any]:
    """What only the config of this architecture takes."""
    match task.architecture:
        case "standard" | "gated":
            return {"l1_coefficient": task.penalty}
        case "jumprelu":
            return {"l0_coefficient": task.penalty, "jumprelu_bandwidth": task.bandwidth}
        case "matryoshka":
            prefixes: dict[str, Any] = {"matryoshka_widths": list(task.widths)}
            return {"k": task.k, "aux_loss_coefficient": task.aux_coefficient, **prefixes}
    return {"k": task.k, "aux_loss_coefficient": task.aux_coefficient}
