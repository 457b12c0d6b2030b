"""Selection on a GPU: kernels that take the largest of the candidates that saes.ops.triton_candidates finds.

The twins are in saes.ops.select. Ties are broken as there: (value descending, token ascending, feature ascending).
Axes: b tokens, f features, r candidates that a token may have, n kept entries, m candidates.
"""

import torch
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import Code, offsets_of
from saes.ops.encode import Preactivations
from saes.ops.launch import Kernel
from saes.ops.triton_candidates import Candidates, candidates

PROVISIONAL_ROOM = 4
"""Candidates of a batch that a provisional selection has room for, over k·b entries: twice what its bound aims at."""


@Kernel
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
    tl.store(kept_features + row * K + place, feature.to(tl.int64), mask=keep)
    tl.store(kept_counts + row, tl.sum(keep.to(tl.int32)))


@Kernel
def _pack_kernel(
    values, features, starts, more_values, more_features, offsets, flat_values, flat_features, room, size,
    BLOCK: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    count = tl.load(offsets + row + 1) - begin
    # A token's candidates stand in its own room, or in the shared one, or nowhere if there was no room.
    at_values = values + row * room
    at_features = features + row * room
    if count > room:
        start = tl.load(starts + row).to(tl.int64)
        count = tl.where(start < 0, 0, count)
        at_values = more_values + start
        at_features = more_features + start
    count = tl.minimum(count, size - begin)
    lanes = tl.arange(0, BLOCK)
    for start in range(0, count, BLOCK):
        fits = start + lanes < count
        tl.store(flat_values + begin + start + lanes, tl.load(at_values + start + lanes, mask=fits), mask=fits)
        if FEATURES:
            feature = tl.load(at_features + start + lanes, mask=fits).to(tl.int64)
            tl.store(flat_features + begin + start + lanes, feature, mask=fits)


@Kernel
def _tally_kernel(flat_values, offsets, smallest, tallies, b, size, BLOCK: tl.constexpr):
    # How many of a token's candidates exceed the smallest kept value, and how many equal it.
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    count = tl.minimum(tl.load(offsets + row + 1), size) - begin
    least = tl.load(smallest)
    lanes = tl.arange(0, BLOCK)
    above = 0
    equal = 0
    for start in range(0, count, BLOCK):
        x = tl.load(flat_values + begin + start + lanes, mask=start + lanes < count, other=0.0)
        above += tl.sum((x > least).to(tl.int32))
        equal += tl.sum((x == least).to(tl.int32))
    tl.store(tallies + row, above)
    tl.store(tallies + b + row, equal)


@Kernel
def _keep_kernel(
    flat_values, features, starts, more_features, offsets, smallest, sums, tallies,
    kept_values, kept_features, kept_offsets, b, n, room, size, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    count = tl.load(offsets + row + 1) - begin
    least = tl.load(smallest)
    # Of the equals, the first in order of tokens fill what those above leave of n.
    left = n - tl.load(sums + b - 1)
    above_before = tl.load(sums + row) - tl.load(tallies + row)
    equal_before = tl.load(sums + b + row) - tl.load(tallies + b + row)
    out = above_before + tl.minimum(equal_before, left)
    tl.store(kept_offsets + row, out)
    if row == b - 1:
        tl.store(kept_offsets + b, out * 0 + n)
    at_features = features + row * room
    if count > room:
        place = tl.load(starts + row).to(tl.int64)
        count = tl.where(place < 0, 0, count)
        at_features = more_features + place
    count = tl.minimum(count, size - begin)
    lanes = tl.arange(0, BLOCK)
    for start in range(0, count, BLOCK):
        fits = start + lanes < count
        x = tl.load(flat_values + begin + start + lanes, mask=fits, other=0.0)
        feature = tl.load(at_features + start + lanes, mask=fits, other=0)
        equal = ((x == least) & fits).to(tl.int32)
        ranked = equal_before + tl.cumsum(equal, 0)
        keep = ((x > least) & fits) | ((equal > 0) & (ranked <= left))
        ones = keep.to(tl.int32)
        place = out + tl.cumsum(ones, 0) - 1
        tl.store(kept_values + place, x, mask=keep)
        tl.store(kept_features + place, feature.to(tl.int64), mask=keep)
        out += tl.sum(ones)
        equal_before += tl.sum(equal)


def per_token(pre: Preactivations, k: int) -> Code | None:
    """The k largest positive pre-activations of every token; None where a token has too many candidates."""
    found, values, features, counts = _largest_of_tokens(pre, k)
    most, least = torch.stack((found.counts.amax(), counts.amin())).tolist()
    if most > found.room:
        return None
    if least == k:
        return _full(values, features, pre)
    there = torch.arange(k, device=values.device) < counts[:, None]
    return Code(values[there], features[there], offsets_of(counts.long()), pre.weight.shape[0])


def per_token_provisionally(pre: Preactivations, k: int) -> tuple[Code, Bool[Tensor, ""]]:
    """The same where every token has k positive ones and room for its candidates; and whether all have."""
    found, values, features, counts = _largest_of_tokens(pre, k)
    return _full(values, features, pre), (found.counts.amax() <= found.room) & (counts.amin() == k)


def _largest_of_tokens(
    pre: Preactivations, k: int
) -> tuple[Candidates, Float[Tensor, "b k"], Int[Tensor, "b k"], Int[Tensor, " b"]]:
    """Candidates; values and features of each token's k largest, zero beyond as many as it has; how many those are."""
    found = candidates(pre, "row", k=k, bound=None)
    b, device = found.counts.shape[0], found.values.device
    values = torch.zeros(b, k, device=device)
    features = torch.zeros(b, k, dtype=torch.int64, device=device)
    counts = torch.empty(b, dtype=torch.int32, device=device)
    room = found.room
    _largest_kernel[(b,)](
        found.values, found.features, found.counts, values, features, counts, room, K=k, ROOM=room, num_warps=1
    )
    return found, values, features, counts


def _full(values: Float[Tensor, "b k"], features: Int[Tensor, "b k"], pre: Preactivations) -> Code:
    b, k = values.shape
    return Code(
        values.view(-1), features.view(-1), torch.arange(0, b * k + 1, k, device=values.device), pre.weight.shape[0]
    )


def per_batch(pre: Preactivations, k: int, bound: Float[Tensor, "1 1"]) -> Code | None:
    """The k·b largest positive pre-activations; None if fewer reach the bound, or more than there is room for."""
    found = candidates(pre, "batch", k=k, bound=bound)
    offsets, n = offsets_of(found.counts), k * found.counts.shape[0]
    total = _total(found, offsets)
    if total is None or total < n:
        return None
    return _largest_of_all(found, offsets, n, total, pre.weight.shape[0])


def per_batch_provisionally(pre: Preactivations, k: int, bound: Float[Tensor, "1 1"]) -> tuple[Code, Bool[Tensor, ""]]:
    """The same where so many reach the bound that there is room for them; and whether that is so."""
    found = candidates(pre, "batch", k=k, bound=bound)
    offsets, n = offsets_of(found.counts), k * found.counts.shape[0]
    size, total = PROVISIONAL_ROOM * n, offsets[-1]
    code = _largest_of_all(found, offsets, n, size, pre.weight.shape[0])
    return code, (_homeless(found) >= 0) & (total >= n) & (total <= size)


def _largest_of_all(found: Candidates, offsets: Int[Tensor, " b_plus_1"], n: int, size: int, d_sae: int) -> Code:
    """The n largest of all candidates, of which there are at most `size`."""
    b, device = found.counts.shape[0], found.values.device
    flat = _packed(found, offsets, size, with_features=False)[0]
    smallest = flat.sort(descending=True).values[n - 1 : n]
    tallies = torch.empty(2, b, dtype=torch.int32, device=device)
    _tally_kernel[(b,)](flat, offsets, smallest, tallies, b, size, BLOCK=found.room, num_warps=1)
    sums = tallies.cumsum(1)
    values = torch.zeros(n, device=device)
    features = torch.zeros(n, dtype=torch.int64, device=device)
    kept_offsets = torch.empty(b + 1, dtype=torch.int64, device=device)
    _keep_kernel[(b,)](
        flat, found.features, found.starts, found.more_features, offsets, smallest, sums, tallies,
        values, features, kept_offsets, b, n, found.room, size, BLOCK=found.room, num_warps=1,
    )  # fmt: skip
    return Code(values, features, kept_offsets, d_sae)


def above_each(pre: Preactivations, threshold: Float[Tensor, " f"], k: int) -> Code | None:
    """All positive pre-activations strictly above their feature's threshold; None where there is no room for them.

    `k`: how many a token is expected to have.
    """
    found = candidates(pre, "feature", k=k, bound=threshold.detach().contiguous())
    offsets = offsets_of(found.counts)
    total = _total(found, offsets)
    if total is None:
        return None
    values, features = _packed(found, offsets, total, with_features=True)
    return Code(values, features, offsets, pre.weight.shape[0])


def _total(found: Candidates, offsets: Int[Tensor, " b_plus_1"]) -> int | None:
    """How many candidates there are; None if some had no room. The one question that the host must ask."""
    total, least = torch.stack((offsets[-1], _homeless(found))).tolist()
    return int(total) if least >= 0 else None


def _homeless(found: Candidates) -> Int[Tensor, ""]:
    """Below zero if a token's candidates had no room."""
    return torch.where(found.counts > found.room, found.starts, 0).amin()


def _packed(
    found: Candidates, offsets: Int[Tensor, " b_plus_1"], size: int, *, with_features: bool
) -> tuple[Float[Tensor, " m"], Int[Tensor, " _"]]:
    """Candidates of all tokens behind one another: values and, if asked for, features."""
    values = torch.zeros(size, device=found.values.device)
    features = torch.empty(size if with_features else 0, dtype=torch.int64, device=found.values.device)
    _pack_kernel[(found.counts.shape[0],)](
        found.values, found.features, found.starts, found.more_values, found.more_features, offsets, values, features,
        found.room, size, BLOCK=found.room, FEATURES=with_features, num_warps=1,
    )  # fmt: skip
    return values, features
