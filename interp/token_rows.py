"""Encoded documents -> rows of tokens -> batches of tensors.

Axes: b rows, t position in the row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows for one forward pass.

    Shapes: all (b, t). keep marks the tokens to use; attention_mask is None where rows are packed and
    position_ids, which restart at each document, keep documents apart, or joined and position_ids run on through the
    row. document is -1 on padding.
    """

    token_ids: Int[Tensor, "b t"]
    keep: Bool[Tensor, "b t"]
    attention_mask: Int[Tensor, "b t"] | None
    position_ids: Int[Tensor, "b t"]
    document: Int[Tensor, "b t"]

    @property
    def n_kept(self) -> int:
        return int(self.keep.sum())

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device; what is pinned is on its way there, in the current stream."""
        return self._each(lambda x: x.to(device, non_blocking=x.is_pinned()))

    def pinned(self) -> "TokenBatch":
        """The same batch in memory from which a GPU copies by itself."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TokenBatch":
        mask = None if self.attention_mask is None else change(self.attention_mask)
        moved = (change(x) for x in (self.position_ids, self.document))
        return TokenBatch(change(self.token_ids), change(self.keep), mask, *moved)


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """A document's number, its tokens without BOS, and which of them may be used (a chat's chosen speakers)."""

    number: int
    token_ids: list[int]
    usable: list[bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One row before it is padded; lists of equal length."""

    token_ids: list[int]
    usable: list[bool]
    document: list[int]
    position: list[int]

    def __len__(self) -> int:
        return len(self.token_ids)


def padded_rows(documents: Sequence[EncodedDocument], size: int, begin: Sequence[int], end: Sequence[int]) -> list[Row]:
    """Pieces of one document each, every piece between `begin` and `end`."""
    room = size - len(begin) - len(end)
    rows = []
    for document in documents:
        for start in range(0, len(document.token_ids), room):
            cut = slice(start, start + room)
            piece = [*begin, *document.token_ids[cut], *end]
            usable = [True] * len(begin) + document.usable[cut] + [True] * len(end)
            rows.append(Row(piece, usable, [document.number] * len(piece), list(range(len(piece)))))
    return rows


def packed_rows(
    documents: Sequence[EncodedDocument], size: int, begin: Sequence[int], *, joined: bool = False
) -> list[Row]:
    """Documents back to back, each behind `begin`, cut into rows of `size`.

    Positions restart at each document, so that none sees another; `joined` rows count theirs from edge to edge.
    """
    whole = Row([], [], [], [])
    for document in documents:
        n = len(begin) + len(document.token_ids)
        whole.token_ids.extend([*begin, *document.token_ids])
        whole.usable.extend([True] * len(begin) + document.usable)
        whole.document.extend([document.number] * n)
        whole.position.extend(range(n))
    rows = []
    for start in range(0, len(whole), size):
        cut = slice(start, start + size)
        token_ids = whole.token_ids[cut]
        position = list(range(len(token_ids))) if joined else _restart(whole.position[cut])
        rows.append(Row(token_ids, whole.usable[cut], whole.document[cut], position))
    return rows


def _restart(position: Sequence[int]) -> list[int]:
    """Positions from 0 for a document that a row's edge cut in two."""
    first = position[0]
    cut = next((i for i, p in enumerate(position) if p < first or (i and p == 0)), len(position))
    return [p - first for p in position[:cut]] + list(position[cut:])


def collate(rows: Sequence[Row], *, pad: int, masked: Sequence[int], packed: bool) -> TokenBatch:
    """Rows padded on the right to the longest; tokens in `masked` and unusable ones are not kept."""
    width = max(len(row) for row in rows)
    shape = (len(rows), width)
    token_ids = torch.full(shape, pad, dtype=torch.int64)
    document = torch.full(shape, -1, dtype=torch.int64)
    position = torch.zeros(shape, dtype=torch.int64)
    usable = torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        n = len(row)
        token_ids[i, :n] = torch.tensor(row.token_ids)
        document[i, :n] = torch.tensor(row.document)
        position[i, :n] = torch.tensor(row.position)
        usable[i, :n] = torch.tensor(row.usable)
    real = document >= 0
    keep = usable & ~torch.isin(token_ids, torch.tensor(masked, dtype=torch.int64))
    if not packed:
        position = torch.arange(width).expand(shape).contiguous()
    return TokenBatch(token_ids, keep, None if packed else real.long(), position, document)
