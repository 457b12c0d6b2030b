"""Forward passes over the ends of rows: of a causal model, what stands before the first edited token is not computed.

Axes: c copies, p prompts, h key-value heads, t position, e width of a head, b = c·p rows, v vocabulary, d d_model.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from interp.forward import Stem
from interp.hooks import Edit, edit
from interp.models import Model
from interp.prompts import Prompts

KeysValues = tuple[Float[Tensor, "p h t e"], Float[Tensor, "p h t e"]]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Keys and values of every block for some prompts, without intervention."""

    blocks: tuple[KeysValues, ...]

    @staticmethod
    @torch.no_grad()
    def of(model: Model, prompts: Prompts) -> "Prefixes | None":
        """By one forward pass; None for an encoder, whose tokens see all others, or where no keys are kept."""
        if not model.causal:
            return None
        cache = DynamicCache()
        model.hf.base_model(input_ids=prompts.token_ids.to(model.device), past_key_values=cache, use_cache=True)
        layers: list[Any] = cache.layers
        blocks = tuple((layer.keys, layer.values) for layer in layers)
        return Prefixes(blocks) if len(blocks) == model.n_layers else None

    def until(self, position: int) -> DynamicCache:
        """A cache, for one pass over any number of copies of the prompts, that holds what stands before a position."""
        cache = DynamicCache()
        cache.layers = [_SharedLayer(keys[:, :, :position], values[:, :, :position]) for keys, values in self.blocks]
        return cache


class _SharedLayer(DynamicLayer):
    """Holds each prompt's keys and values once, until they are joined with those of all copies."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeysValues:
        before: Any = (self.keys, self.values)
        joined = _joined(before[0], key_states), _joined(before[1], value_states)
        self.keys, self.values = joined
        return joined


def _joined(before: Float[Tensor, "p h t e"], new: Float[Tensor, "b h s e"]) -> Float[Tensor, "b h t_plus_s e"]:
    n_prompts, n_heads, length, width = before.shape
    out = new.new_empty(new.shape[0] // n_prompts, n_prompts, n_heads, length + new.shape[2], width)
    out[..., :length, :] = before
    out[..., length:, :] = new.view(*out.shape[:3], -1, width)
    return out.flatten(0, 1)


@torch.no_grad()
def suffix_outputs(
    model: Model,
    prompts: Prompts,
    start: int,
    prefixes: Prefixes,
    edits: Mapping[str, Edit],
    stem: Stem | None = None,
) -> Float[Tensor, "b v"]:
    """`last_outputs` for copies of the prompts that `prefixes` holds, computed from token `start` on.

    Edits and stem see the tokens from `start` on alone. Rows that end before it give what stands at their `start`.
    """
    after = (prompts.last - start).clamp(min=0)
    at, place = after.unique(return_inverse=True)
    with ExitStack() as stack:
        if stem is not None:
            stack.enter_context(stem.entered(model))
        stack.enter_context(edit(model, edits))
        logits: Tensor = model.hf(
            input_ids=prompts.token_ids[:, start:].to(model.device),
            past_key_values=prefixes.until(start),
            use_cache=True,
            logits_to_keep=at.to(model.device),
        ).logits
    return logits[torch.arange(len(prompts), device=logits.device), place.to(logits.device)]
