"""Codes to begin with: as drawn, or the centres of clusters of activations.

Axes: n tokens, g groups, c codes, e width of a group, d width of the hook.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp.codebooks.insertion import Codebooks
from interp.codebooks.quantise import Quantiser
from interp.hooks import capture
from interp.models import Model
from interp.token_rows import TokenBatch

N_ROUNDS = 10


@torch.no_grad()
def start_at_clusters(
    model: Model, codebooks: Codebooks, batches: Iterable[TokenBatch], *, seed: int, scaled: bool = False
) -> None:
    """Put codes at the centres of the activations that stand at each hook without any codebook.

    `scaled` puts them, and the LayerNorm before, at the scale of the activations.
    """
    held: dict[str, list[Tensor]] = {hook: [] for hook in codebooks.hooks}
    for batch in batches:
        positions = batch.position_ids if batch.attention_mask is None else None
        acts = capture(model, batch.token_ids, codebooks.hooks, batch.attention_mask, positions)
        for hook, x in acts.items():
            held[hook].append(x[batch.document.to(x.device) >= 0])
    for index, (hook, quantiser) in enumerate(codebooks.items()):
        start_quantiser(quantiser, torch.cat(held[hook]), seed=seed + index, scaled=scaled)


@torch.no_grad()
def start_norm(quantiser: Quantiser, x: Float[Tensor, "n d"]) -> None:
    """Weights and biases of the LayerNorm that best restore the activations, column by column, by least squares.

    With ones and zeros every head would write at unit variance, which is nothing like what the model was trained to
    read, and most of a short finetune would go into learning the scale again.
    """
    grouped = x.to(quantiser.codes.dtype).unflatten(-1, (quantiser.n_groups, quantiser.group_width))
    plain = F.layer_norm(grouped, (quantiser.group_width,))
    centred = plain - plain.mean(0)
    variance = centred.square().sum(0)
    # A column that is constant once normalised says nothing of its weight.
    slope = torch.where(variance > 0, (centred * grouped).sum(0) / variance.clamp_min(1e-12), 1.0)
    quantiser.weight.copy_(slope)
    quantiser.bias.copy_(grouped.mean(0) - slope * plain.mean(0))


@torch.no_grad()
def start_quantiser(quantiser: Quantiser, x: Float[Tensor, "n d"], *, seed: int, scaled: bool = False) -> None:
    """Spherical k-means in each group of normalised activations; where k codes are added up, each is a share.

    `scaled` sets the LayerNorm first; the reconstruction loss is then in units of the activations.
    """
    if scaled:
        start_norm(quantiser, x)
    generator = torch.Generator().manual_seed(seed)
    normed = quantiser.normalise(x)
    for group in range(quantiser.n_groups):
        points = normed[:, group]
        repeated = torch.randperm(max(len(points), quantiser.n_codes), generator=generator) % len(points)
        centres = points[repeated[: quantiser.n_codes].to(points.device)].clone()
        for _ in range(N_ROUNDS):
            own = (points @ F.normalize(centres, dim=1).T).argmax(1)
            sums = torch.zeros_like(centres).index_add_(0, own, points)
            counts = torch.bincount(own, minlength=len(centres))
            # A cluster without a token stays at the one it was drawn at.
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
        quantiser.codes[group] = centres / (quantiser.scale * quantiser.k)
