"""Which part of a token stream a measurement looks at: the same one for the same seed, pass after pass."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import torch

from interp.datasets import TokenBatch
from interp.errors import ConfigError, DataError

Cursor = dict[str, int]


@runtime_checkable
class TokenSource(Protocol):
    """A token stream that tells what it is (interp.datasets.TokenStream)."""

    @property
    def facts(self) -> dict[str, Any]: ...
    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, TokenBatch]]: ...


def iter_sample(source: TokenSource, n_tokens: int, *, seed: int) -> Iterator[TokenBatch]:
    """Batches with about `n_tokens` kept tokens, or one whole pass if the source holds fewer.

    A stream sorts the rows of a group of documents by length. Groups are therefore taken whole, and of the last one
    the batches are drawn by seed: cutting it off would leave short rows only.

    Raises: ConfigError if n_tokens is not positive; DataError if the source holds no usable token.
    """
    if n_tokens < 1:
        raise ConfigError(f"n_tokens: got {n_tokens}; expected at least 1")
    left = n_tokens
    for (epoch, _), members in groupby(source.iter_from({}), key=_group_of):
        if epoch > 0 or left <= 0:
            break
        batches = [batch for _, batch in members if batch.n_kept]
        chosen = _draw(batches, left, seed) if sum(batch.n_kept for batch in batches) > left else batches
        left -= sum(batch.n_kept for batch in chosen)
        yield from chosen
    if left == n_tokens:
        raise DataError("got no usable token from the data; give more text, or another split or mask")


def _group_of(item: tuple[Cursor, TokenBatch]) -> tuple[int, int]:
    return item[0]["epoch"], item[0]["document"]


def _draw(batches: list[TokenBatch], n_tokens: int, seed: int) -> list[TokenBatch]:
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: list[int] = []
    for index in order:
        if n_tokens <= 0:
            break
        chosen.append(index)
        n_tokens -= batches[index].n_kept
    return [batches[index] for index in sorted(chosen)]
