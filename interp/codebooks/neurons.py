"""Activations of a model's neurons, the rivals of codes.

Axes: n tokens, m neurons.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from interp.hooks import capture
from interp.models import Model
from interp.token_rows import TokenBatch

BUDGET = 2**30
"""Bytes of activations that are held at once, or those of one layer where they are more."""


def neuron_hooks(model: Model, layers: tuple[int, ...] = ()) -> list[str]:
    """MLP neurons behind their nonlinearity."""
    return [f"blocks.{layer}.mlp.hook_post" for layer in layers or range(model.n_layers)]


@torch.no_grad()
def neuron_activations(
    model: Model,
    batches: Iterable[TokenBatch],
    *,
    n_tokens: int,
    layers: tuple[int, ...] = (),
    only: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Float[ndarray, "n m"]]:
    """MLP neurons behind their nonlinearity at the very tokens that `record_codes` looks at, by hook.

    `only` keeps some neurons of some hooks.
    """
    hooks = neuron_hooks(model, layers) if only is None else list(only)
    found: dict[str, ndarray] = {}
    n = 0
    for batch in batches:
        positions = batch.position_ids if batch.attention_mask is None else None
        acts = capture(model, batch.token_ids, hooks, batch.attention_mask, positions)
        for hook in hooks:
            kept = acts[hook][batch.keep.to(model.device)]
            kept = (kept if only is None else kept[:, list(only[hook])])[: n_tokens - n].float().cpu()
            # Filled in place: parts and their whole would be twice as much.
            whole = found.setdefault(hook, np.empty((n_tokens, kept.shape[1]), dtype=np.float32))
            whole[n : n + len(kept)] = kept.numpy()
        n += batch.n_kept
        if n >= n_tokens:
            break
    return {hook: held[:n] for hook, held in found.items()}


def draw_neurons(model: Model, n: int, *, seed: int) -> list[tuple[str, int]]:
    """Neurons drawn by seed among all, as (hook, neuron)."""
    pairs = [(hook, m) for hook in neuron_hooks(model) for m in range(model.hook(hook).width)]
    return [pairs[index] for index in np.random.default_rng(seed).permutation(len(pairs))[:n]]


def iter_neurons(
    model: Model, passes: Callable[[], Iterable[TokenBatch]], *, n_tokens: int, budget: int = BUDGET
) -> Iterator[tuple[str, Float[ndarray, "n m"]]]:
    """Neurons hook by hook. `passes` begins another pass over the same text, for as many hooks as fit the budget."""
    waiting = list(range(model.n_layers))
    while waiting:
        size = 4 * n_tokens * model.hook(neuron_hooks(model, (waiting[0],))[0]).width
        taken, waiting = waiting[: max(1, budget // size)], waiting[max(1, budget // size) :]
        held = neuron_activations(model, passes(), n_tokens=n_tokens, layers=tuple(taken))
        for hook in list(held):
            # Let go of one before the next is asked for.
            yield hook, held.pop(hook)
