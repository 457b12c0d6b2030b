"""Forward passes -> activations of the kept tokens, in data order, from any cursor on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import ActivationBatch
from interp.datasets import TokenBatch, TokenStream
from interp.errors import NonFiniteError
from interp.hooks import capture
from interp.models import Model

Cursor = dict[str, int]


@runtime_checkable
class ActivationSource(Protocol):
    """Activations in data order, for ever: harvested from a model or read from disk."""

    @property
    def widths(self) -> Mapping[str, int]:
        """Width of the activations at each hook."""
        ...

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks, each with the cursor that gives it again; {} is the beginning."""
        ...


class Harvest:
    """Activations of one model over one token stream, at one or several hooks, in one forward pass."""

    def __init__(self, model: Model, stream: TokenStream, hooks: Sequence[str]) -> None:
        """Raises: UnknownHookError if the model lacks a hook."""
        self._model, self._stream = model, stream
        self.widths = {name: model.hook(name).width for name in hooks}

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks of kept tokens; a batch that holds none is passed over.

        Raises: NonFiniteError if the model gives NaN or infinity.
        """
        for here, batch in self._stream.iter_from(cursor):
            if batch.n_kept:
                yield here, harvest_batch(self._model, batch, tuple(self.widths))


def harvest_batch(model: Model, batch: TokenBatch, hooks: Sequence[str]) -> ActivationBatch:
    """Activations of a batch's kept tokens, row after row.

    Raises: NonFiniteError naming the hook if a kept activation is NaN or infinite.
    """
    moved = batch.to(model.device)
    # No mask for a causal model: padding stands on the right, where its tokens cannot see it, and masks slow attention.
    mask = None if model.causal else moved.attention_mask
    captured = capture(model, moved.token_ids, hooks, attention_mask=mask, position_ids=position_ids(moved))
    acts = {hook: _finite(hook, x[moved.keep]) for hook, x in captured.items()}
    keep = moved.keep
    return ActivationBatch(acts, moved.token_ids[keep], moved.document[keep], moved.position_ids[keep])


def position_ids(batch: TokenBatch) -> Tensor | None:
    """Positions to hand to the model: needed only where packed documents restart them."""
    return batch.position_ids if batch.attention_mask is None else None


def _finite(hook: str, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    # One reduction tells NaN and infinity from numbers without a mask of the tensor's size.
    if not bool(torch.isfinite(x.sum(dtype=torch.float32))):
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        if bad:
            raise NonFiniteError(
                f"{hook}: {bad} of {x.shape[0]} tokens have NaN or infinite activations; "
                "load the model in float32 (--dtype float32) or check its weights"
            )
    return x
