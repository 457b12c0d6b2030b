"""Activations of a model's neurons, the rivals of codes.

Axes: n tokens, m neurons.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from interp.hooks import capture
from interp.models import Model
from interp.token_rows import TokenBatch


@torch.no_grad()
def neuron_activations(
    model: Model, batches: Iterable[TokenBatch], *, n_tokens: int, layers: tuple[int, ...] = ()
) -> dict[str, Float[ndarray, "n m"]]:
    """MLP neurons behind their nonlinearity at the very tokens that `record_codes` looks at, by hook."""
    hooks = [f"blocks.{layer}.mlp.hook_post" for layer in layers or range(model.n_layers)]
    parts: dict[str, list[ndarray]] = {hook: [] for hook in hooks}
    n = 0
    for batch in batches:
        positions = batch.position_ids if batch.attention_mask is None else None
        acts = capture(model, batch.token_ids, hooks, batch.attention_mask, positions)
        for hook in hooks:
            parts[hook].append(acts[hook][batch.keep.to(model.device)].float().cpu().numpy())
        n += batch.n_kept
        if n >= n_tokens:
            break
    return {hook: np.concatenate(found)[:n_tokens] for hook, found in parts.items()}
