"""How prefix losses and the dead-feature loss make up the training loss.

Axes: b tokens, d width of the input, o width of the output, g prefixes, m dead features.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saes.config import SAEConfig

LossVariant = Literal["sum", "mean", "mean_with_bias"]


def loss_variant(config: SAEConfig) -> LossVariant:
    """How prefixes are weighed; without prefixes there is nothing to choose."""
    return config.loss_variant if config.nested or config.architecture == "matryoshka" else "sum"


def prefix_weights(variant: LossVariant, n_prefixes: int) -> tuple[float, ...]:
    """Weights of the bias-only term and of each prefix.

    Source: Bussmann et al. 2025 (arXiv 2503.17547): `sum` is the paper's listing (and SAELens), `mean_with_bias` the
    reference code, whose error is moreover a mean over d; here it is a sum over d in every variant.
    """
    if variant == "sum":
        return (0.0, *[1.0] * n_prefixes)
    if variant == "mean":
        return (0.0, *[1 / n_prefixes] * n_prefixes)
    return (1 / (n_prefixes + 1),) * (n_prefixes + 1)


def aux_weight(variant: LossVariant, n_prefixes: int, coefficient: float) -> float:
    """Weight of the dead-feature loss, so that it stands to the *mean* prefix loss as `coefficient` in each variant.

    `sum` is n_prefixes times the mean prefix loss, so the weight grows with it.
    """
    return coefficient * n_prefixes if variant == "sum" else coefficient


def aux_loss(
    centred: Float[Tensor, "b d"],
    residual: Float[Tensor, "b o"],
    encoder_rows: Float[Tensor, "m d"],
    biases: Float[Tensor, " m"],
    decoder_rows: Float[Tensor, "m o"],
    *,
    k: int,
) -> Float[Tensor, ""]:
    """Squared error of reconstructing the (detached) residual from the k strongest dead features of each token.

    Scaled by m / k where fewer than k features are dead, so that a single one is not asked to explain everything.
    Units: squared error summed over o, mean over tokens.
    Source: Gao et al. 2024 (arXiv 2406.04093), appendix A.2; the scale is SAELens's.
    """
    acts = torch.relu(torch.addmm(biases, centred, encoder_rows.t()))
    n_dead = decoder_rows.shape[0]
    if k < n_dead:
        top = acts.topk(k, dim=1, sorted=False)
        acts = torch.zeros_like(acts).scatter(1, top.indices, top.values)
    error = residual - acts @ decoder_rows
    return error.square().sum() / residual.shape[0] * min(n_dead / k, 1.0)
