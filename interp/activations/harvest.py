"""Forward passes -> activations of the kept tokens, in data order, from any cursor on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from interp.activations.ahead import iter_ahead
from interp.activations.courier import same_device
from interp.code import ActivationBatch
from interp.compiled import CompiledCapture
from interp.config import Config
from interp.datasets import TokenBatch, TokenStream
from interp.finite import check_finite
from interp.hooks import capture
from interp.models import Model

Cursor = dict[str, int]
N_AHEAD = 8
"""Batches made ahead unless a config says otherwise: with the usual sizes as many tokens as a shuffled block holds."""


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


@runtime_checkable
class TellsSeconds(Protocol):
    """A source that knows what took it its time."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Ever growing: "text" is waiting for tokens, "ahead" is work of its own thread, beside everybody else's."""
        ...


class HarvestConfig(Config):
    """How the model is run to harvest activations."""

    prefetch: int | None = Field(None, ge=0)
    """Batches that threads make before they are asked for: of tokens and, in training, unless model and SAE share a GPU
    or ranks share the passes, of activations; changes no result. Unset: 8 where a GPU takes part, else 0. On a CPU 8
    lets harvesting go on beside the steps, which pays most where there are more cores than threads of torch."""
    compile: bool = False
    """Compile the model's forward pass, up to the deepest hook, with torch.compile: takes a minute at the start, and
    changes activations by rounding. The first batch is compared with the plain pass."""

    def n_ahead(self, *devices: torch.device) -> int:
        """Batches to make ahead where these devices take part."""
        if self.prefetch is not None:
            return self.prefetch
        return N_AHEAD if any(device.type == "cuda" for device in devices) else 0

    def activations_ahead(self, made_on: torch.device, used_on: torch.device, *, n_ranks: int = 1) -> int:
        """Batches of activations to make ahead: none on one GPU, which does one thing at a time, and none by several
        ranks, which exchange them in the order of their steps."""
        on_one_gpu = made_on.type == "cuda" and same_device(made_on, used_on)
        return 0 if on_one_gpu or n_ranks > 1 else self.n_ahead(made_on, used_on)


PLAIN = HarvestConfig()


class Harvest:
    """Activations of one model over one token stream, at one or several hooks, in one forward pass."""

    def __init__(self, model: Model, stream: TokenStream, hooks: Sequence[str], how: HarvestConfig = PLAIN) -> None:
        """Raises: UnknownHookError if the model lacks a hook; ConfigError if it cannot be compiled."""
        self.widths = {name: model.hook(name).width for name in hooks}
        self._model, self._tokens = model, TokenReader(stream, model, how)
        self._read = reader_of(model, hooks, how)

    @property
    def seconds(self) -> Mapping[str, float]:
        return self._tokens.seconds

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks of kept tokens; a batch that holds none is passed over.

        Raises: NonFiniteError if the model gives NaN or infinity.
        """
        for here, batch in self._tokens.iter_from(cursor):
            yield here, harvest_batch(self._model, batch, tuple(self.widths), read=self._read)


class TokenReader:
    """Token batches that hold kept tokens, made ahead by a thread if the config says so."""

    def __init__(self, stream: TokenStream, model: Model, how: HarvestConfig) -> None:
        self._stream, self._n_ahead = stream, how.n_ahead(model.device)
        self._pinned = self._n_ahead > 0 and model.device.type == "cuda"
        self.seconds = {"text": 0.0}

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, TokenBatch]]:
        """Batches, each with the cursor that gives it again."""
        with closing(iter_ahead(lambda: self._kept(cursor), self._n_ahead)) as batches:
            while True:
                begun = time.perf_counter()
                item = next(batches, None)
                self.seconds["text"] += time.perf_counter() - begun
                if item is None:
                    return
                yield item

    def _kept(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, TokenBatch]]:
        for here, batch in self._stream.iter_from(cursor):
            if batch.n_kept:
                yield here, batch.pinned() if self._pinned else batch


Read = Callable[[Tensor, Tensor | None, Tensor | None, Tensor], dict[str, Tensor]]
"""A forward pass: token ids, mask, positions and which tokens are kept -> activations of all tokens by hook."""


def reader_of(model: Model, hooks: Sequence[str], how: HarvestConfig) -> Read:
    """The forward pass up to the deepest hook, as the config says.

    Raises: ConfigError if hooks of two models shall be compiled.
    """
    return CompiledCapture(model, hooks) if how.compile else plain_reader(model, hooks)


def plain_reader(model: Model, hooks: Sequence[str]) -> Read:
    """The forward pass up to the deepest hook."""
    return lambda token_ids, mask, positions, _keep: capture(model, token_ids, hooks, mask, positions)


def harvest_batch(
    model: Model, batch: TokenBatch, hooks: Sequence[str], *, read: Read | None = None
) -> ActivationBatch:
    """Activations of a batch's kept tokens, row after row, by the plain forward pass or by `read`.

    Raises: NonFiniteError naming the hook if a kept activation is NaN or infinite.
    """
    moved = batch.to(model.device)
    # No mask for a causal model: padding stands on the right, where its tokens cannot see it, and masks slow attention.
    mask = None if model.causal else moved.attention_mask
    keep = moved.keep
    captured = (read or plain_reader(model, hooks))(moved.token_ids, mask, position_ids(moved), keep)
    acts = {hook: check_finite(hook, x[keep]) for hook, x in captured.items()}
    return ActivationBatch(acts, moved.token_ids[keep], moved.document[keep], moved.position_ids[keep])


def position_ids(batch: TokenBatch) -> Tensor | None:
    """Positions to hand to the model: needed only where packed documents restart them."""
    return batch.position_ids if batch.attention_mask is None else None
