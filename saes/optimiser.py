"""The optimiser of SAEs."""

import torch

from saes.base import SAE


def make_optimiser(sae: SAE, lr: float) -> torch.optim.Optimizer:
    """Adam over the trainable parameters, in one fused pass.

    Source: learning rate and betas of Bussmann et al. 2025 (arXiv 2503.17547).
    """
    trainable = [parameter for parameter in sae.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trainable, lr=lr, betas=(0.9, 0.999), fused=True)
