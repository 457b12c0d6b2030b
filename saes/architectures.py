"""From a config to an untrained SAE."""

import torch

from saes.base import SAE
from saes.batch_topk import BatchTopKSAE
from saes.config import SAEConfig
from saes.matryoshka import MatryoshkaSAE
from saes.standard import StandardSAE
from saes.topk import TopKSAE

ARCHITECTURES: dict[str, type[SAE]] = {
    "topk": TopKSAE,
    "batch_topk": BatchTopKSAE,
    "matryoshka": MatryoshkaSAE,
    "standard": StandardSAE,
}


def create_sae(
    config: SAEConfig,
    d_in: int,
    *,
    hooks_in: tuple[str, ...],
    hooks_out: tuple[str, ...] | None = None,
    token_budget: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SAE:
    """An SAE of the configured architecture, all weights zero until `initialise` or a state dict fills them.

    `token_budget` is the number of tokens of the run; it decides when a feature counts as dead.
    """
    kind = ARCHITECTURES[config.architecture]
    return kind(
        config, d_in, hooks_in=hooks_in, hooks_out=hooks_out, token_budget=token_budget, device=device, dtype=dtype
    )
