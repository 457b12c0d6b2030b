"""Selection on a GPU: kernels that read the pre-activations once or twice and write candidates alone.

The twins are in saes.ops.select. Ties are broken as there: (value descending, token ascending, feature ascending).
Axes: b tokens, c tokens of a chunk, f features, r candidates that a token may have, n kept entries.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code, offsets_of
from saes.ops.encode import Preactivations

WIDTH = 1024
"""Pre-activations that one program looks at together; as many group maxima bound a token's k-th largest."""
ROOM_PER_TOKEN = 8
"""Candidates for which there is room, over k; where more reach the bound the eager path is taken."""
LEAST_ROOM = 256
BoundKind = Literal["row", "batch", "feature"]
_KINDS: dict[BoundKind, int] = {"row": 0, "batch": 1, "feature": 2}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Entries that reached a bound, token by token with features ascending; what is beyond a token's count is unset.

    Shapes: values, features (b, r); counts (b,), which may exceed r: the rest had no room.
    """

    values: Float[Tensor, "b r"]
    features: Int[Tensor, "b r"]
    counts: Int[Tensor, " b"]

    @property
    def room(self) -> int:
        return self.values.shape[1]


@triton.jit
def _candidates_kernel(
    chunk,
    bound_ptr,
    values,
    features,
    counts,
    f,
    n_chunks,
    offset,
    room,
    K: tl.constexpr,
    KIND: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    base = chunk + row * f
    out = row * n_chunks + offset
    lanes = tl.arange(0, WIDTH)
    bound = 0.0
    if KIND == 0:
        top = tl.zeros([WIDTH], dtype=tl.float32)
        for start in range(0, f, WIDTH):
            at = start + lanes
            top = tl.maximum(top, tl.load(base + at, mask=at < f, other=0.0).to(tl.float32))
        # Positive floats are ordered as their bits are: the largest pattern that K maxima reach, bit by bit.
        keys = top.to(tl.int32, bitcast=True)
        low = 0
        for step in range(31):
            tried = low | (1 << (30 - step))
            low = tl.where(tl.sum((keys >= tried).to(tl.int32)) >= K, tried, low)
        bound = low.to(tl.float32, bitcast=True)  # type: ignore[attr-defined]
    if KIND == 1:
        bound = tl.load(bound_ptr)
    n = 0
    for start in range(0, f, WIDTH):
        at = start + lanes
        x = tl.load(base + at, mask=at < f, other=0.0).to(tl.float32)
        if KIND == 2:
            hit = (x > tl.load(bound_ptr + at, mask=at < f, other=0.0)) & (x > 0)
        else:
            hit = (x >= bound) & (x > 0)
        ones = hit.to(tl.int32)
        found = tl.sum(ones)
        if found > 0:
            place = n + tl.cumsum(ones, 0) - 1
            fits = hit & (place < room)
            tl.store(values + out * room + place, x, mask=fits)
            tl.store(features + out * room + place, at, mask=fits)
            n += found
    tl.store(counts + out, n)


@triton.jit
def _largest_kernel(
    values, features, counts, kept_values, kept_features, kept_counts, room, K: tl.constexpr, ROOM: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, ROOM)
    there = lanes < tl.minimum(tl.load(counts + row), room)
    x = tl.load(values + row * room + lanes, mask=there, other=0.0)
    feature = tl.load(features + row * room + lanes, mask=there, other=0)
    keys = x.to(tl.int32, bitcast=True)
    low = 0
    for step in range(31):
        tried = low | (1 << (30 - step))
        low = tl.where(tl.sum((keys >= tried).to(tl.int32)) >= K, tried, low)
    above = (keys > low) & there
    equal = (keys == low) & there
    left = K - tl.sum(above.to(tl.int32))
    keep = above | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= left))
    place = tl.cumsum(keep.to(tl.int32), 0) - 1
    tl.store(kept_values + row * K + place, x, mask=keep)
    tl.store(kept_features + row * K + place, feature, mask=keep)
    tl.store(kept_counts + row, tl.sum(keep.to(tl.int32)))


@triton.jit
def _pack_kernel(values, features, offsets, flat_values, flat_features, flat_rows, room, size, ROOM: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    start = tl.load(offsets + row)
    count = tl.load(offsets + row + 1) - start
    lanes = tl.arange(0, ROOM)
    fits = (lanes < count) & (start + lanes < size)
    x = tl.load(values + row * room + lanes, mask=fits, other=0.0)
    feature = tl.load(features + row * room + lanes, mask=fits, other=0)
    tl.store(flat_values + start + lanes, x, mask=fits)
    tl.store(flat_features + start + lanes, feature, mask=fits)
    tl.store(flat_rows + start + lanes, row.to(tl.int32), mask=fits)


def candidates(pre: Preactivations, kind: BoundKind, *, k: int, bound: Tensor | None, room: int) -> Candidates:
    """All positive entries that reach a bound: their token's own (so that at least k reach it), one for the batch, or
    strictly their feature's."""
    b, f, device = pre.centred.shape[0], pre.weight.shape[0], pre.centred.device
    values = torch.empty(b, room, device=device)
    features = torch.empty(b, room, dtype=torch.int32, device=device)
    counts = torch.empty(b, dtype=torch.int32, device=device)
    held = counts if bound is None else bound
    for offset, chunk in pre.raw_chunks():
        _candidates_kernel[(chunk.shape[0],)](
            chunk, held, values, features, counts, f, pre.n_chunks, offset, room,
            K=min(k, f), KIND=_KINDS[kind], WIDTH=WIDTH, num_warps=4,
        )  # fmt: skip
    return Candidates(values, features, counts)


def room_for(k: int) -> int:
    """Candidates that a token may have, a power of two."""
    return max(LEAST_ROOM, 1 << (ROOM_PER_TOKEN * k - 1).bit_length())


def per_token(pre: Preactivations, k: int) -> Code | None:
    """The k largest positive pre-activations of every token; None where a token has too many candidates."""
    found = candidates(pre, "row", k=k, bound=None, room=room_for(k))
    b, device = found.counts.shape[0], found.values.device
    values = torch.empty(b, k, device=device)
    features = torch.empty(b, k, dtype=torch.int32, device=device)
    counts = torch.empty(b, dtype=torch.int32, device=device)
    room = found.room
    _largest_kernel[(b,)](
        found.values, found.features, found.counts, values, features, counts, room, K=k, ROOM=room, num_warps=1
    )
    most, least = torch.stack((found.counts.max(), counts.min())).tolist()
    if most > room:
        return None
    d_sae = pre.weight.shape[0]
    if least == k:
        offsets = torch.arange(0, b * k + 1, k, device=device)
        return Code(values.view(-1), features.view(-1).long(), offsets, d_sae)
    there = torch.arange(k, device=device) < counts[:, None]
    return Code(values[there], features[there].long(), offsets_of(counts.long()), d_sae)


def per_batch(pre: Preactivations, k: int, bound: Float[Tensor, "1 1"]) -> Code | None:
    """The k·b largest positive pre-activations; None if fewer reach the bound, or more than there is room for."""
    found = candidates(pre, "batch", k=k, bound=bound, room=room_for(k))
    b, device, n = found.counts.shape[0], found.values.device, k * found.counts.shape[0]
    offsets = offsets_of(found.counts.long())
    most, total = torch.stack((found.counts.max().long(), offsets[-1])).tolist()
    if most > found.room or total < n:
        return None
    values, features, rows = _packed(found, offsets, total)
    kept = _largest_of_all(values, n)
    place = torch.where(kept, kept.cumsum(0) - 1, n)
    kept_rows = _moved(rows, place, n)
    row_offsets = torch.searchsorted(kept_rows, torch.arange(b + 1, device=device, dtype=kept_rows.dtype))
    return Code(_moved(values, place, n), _moved(features, place, n).long(), row_offsets, pre.weight.shape[0])


def above_each(pre: Preactivations, threshold: Float[Tensor, " f"], *, room: int = 1024) -> Code | None:
    """All positive pre-activations strictly above their feature's threshold; None where there is no room for them."""
    found = candidates(pre, "feature", k=1, bound=threshold.detach().contiguous(), room=room)
    offsets = offsets_of(found.counts.long())
    most, total = torch.stack((found.counts.max().long(), offsets[-1])).tolist()
    if most > room:
        return None
    values, features, _ = _packed(found, offsets, total)
    return Code(values, features.long(), offsets, pre.weight.shape[0])


def _packed(found: Candidates, offsets: Int[Tensor, " b_plus_1"], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates of all tokens behind one another: values, features, tokens."""
    device = found.values.device
    values = torch.empty(size, device=device)
    features, rows = (torch.empty(size, dtype=torch.int32, device=device) for _ in range(2))
    _pack_kernel[(found.counts.shape[0],)](
        found.values, found.features, offsets, values, features, rows, found.room, size, ROOM=found.room, num_warps=1
    )
    return values, features, rows


def _largest_of_all(values: Float[Tensor, " m"], n: int) -> Tensor:
    """Which are the n largest; among equals the first."""
    smallest = values.sort(descending=True).values[n - 1]
    above, equal = values > smallest, values == smallest
    return above | (equal & (equal.cumsum(0) <= n - above.sum()))


def _moved(held: Tensor, place: Int[Tensor, " m"], n: int) -> Tensor:
    """Entries at their places; those at place n are dropped."""
    return held.new_empty(n + 1).scatter_(0, place, held)[:n]
