"""Selection on a GPU: kernels that read the pre-activations once or twice and write candidates alone.

The twins are in saes.ops.select. Ties are broken as there: (value descending, token ascending, feature ascending).
Axes: b tokens, c tokens of a chunk, f features, r candidates that a token may have, n kept entries, m candidates.
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
from saes.ops.launch import Kernel

GROUP = 32
"""Neighbouring features of which the largest is looked at first; only groups that reach the bound are looked into."""
WIDTH = 1024
"""Maxima that one program looks at together; as many bound a token's k-th largest."""
ROOM_PER_TOKEN = 8
"""Candidates for which a token has room of its own, over k; the few tokens with more share what is set aside."""
LEAST_ROOM = 256
SHARED_ROOM = 4
"""What is set aside for tokens with many candidates, over k·b entries; beyond it the eager path is taken."""
BoundKind = Literal["row", "batch", "feature"]
_KINDS: dict[BoundKind, int] = {"row": 0, "batch": 1, "feature": 2}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Entries that reached a bound, token by token with features ascending; what is beyond a token's count is unset.

    Shapes: values, features (b, r), of tokens with at most r candidates; counts, starts (b,): where the others begin in
    more_values, more_features (m,), -1 if there was no room.
    """

    values: Float[Tensor, "b r"]
    features: Int[Tensor, "b r"]
    counts: Int[Tensor, " b"]
    starts: Int[Tensor, " b"]
    more_values: Float[Tensor, " m"]
    more_features: Int[Tensor, " m"]

    @property
    def room(self) -> int:
        return self.values.shape[1]


@Kernel
def _maxima_kernel(chunk, bounds, maxima, f, n_groups, KIND: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    # The largest of each group of neighbours; where every feature has a bound of its own, by how much one exceeds it.
    row = tl.program_id(0).to(tl.int64)
    groups = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    x = tl.load(chunk + row * f + at, mask=at < f, other=0.0).to(tl.float32)
    over = x
    if KIND == 2:
        over = x - tl.load(bounds + at, mask=at < f, other=0.0)
    # What is no number is no candidate.
    x = tl.where(x > 0, over, 0.0)
    tl.store(maxima + row * n_groups + groups, tl.max(x, axis=1), mask=groups < n_groups)


@Kernel
def _row_bounds_kernel(maxima, bounds, n_groups, K: tl.constexpr, WIDTH: tl.constexpr):
    # The largest value that K of WIDTH maxima of a token reach: at least K of its entries do.
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, WIDTH)
    top = tl.zeros([WIDTH], dtype=tl.float32)
    for start in range(0, n_groups, WIDTH):
        there = start + lanes < n_groups
        top = tl.maximum(top, tl.load(maxima + row * n_groups + start + lanes, mask=there, other=0.0))
    # Positive floats are ordered as their bits are: the largest pattern that K maxima reach, bit by bit.
    keys = top.to(tl.int32, bitcast=True)
    low = 0
    for step in range(31):
        tried = low | (1 << (30 - step))
        low = tl.where(tl.sum((keys >= tried).to(tl.int32)) >= K, tried, low)
    tl.store(bounds + row, low.to(tl.float32, bitcast=True))  # type: ignore[attr-defined]


@Kernel
def _candidates_kernel(
    chunk, maxima, bounds, hits, values, features, counts, starts, more_values, more_features, cursor, f, n_groups,
    n_chunks, offset, room, more_room,
    KIND: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    out = row * n_chunks + offset
    lanes = tl.arange(0, WIDTH)
    own = maxima + row * n_groups
    bound = 0.0
    if KIND != 2:
        bound = tl.load(bounds + row * (1 - KIND))
    # Which groups hold a candidate.
    n_hits = 0
    for start in range(0, n_groups, WIDTH):
        x = tl.load(own + start + lanes, mask=start + lanes < n_groups, other=0.0)
        hit = ((x >= bound) & (x > 0)).to(tl.int32)
        place = n_hits + tl.cumsum(hit, 0) - 1
        tl.store(hits + row * n_groups + place, start + lanes, mask=hit > 0)
        n_hits += tl.sum(hit)
    tl.debug_barrier()
    # The candidates in them, in order, to the token's own room; to the shared one if they are too many.
    several = tl.arange(0, TILE)
    inside = tl.arange(0, GROUP)
    at_values = values + out * room
    at_features = features + out * room
    limit = room
    n = 0
    trials = 1
    trial = 0
    while trial < trials:
        n = 0
        for start in range(0, n_hits, TILE):
            there = start + several < n_hits
            group = tl.load(hits + row * n_groups + start + several, mask=there, other=0)
            at = tl.reshape(group[:, None] * GROUP + inside[None, :], [TILE * GROUP])
            real = tl.reshape(tl.broadcast_to(there[:, None], [TILE, GROUP]), [TILE * GROUP]) & (at < f)
            x = tl.load(chunk + row * f + at, mask=real, other=0.0).to(tl.float32)
            if KIND == 2:
                hit = ((x > tl.load(bounds + at, mask=real, other=0.0)) & (x > 0)).to(tl.int32)
            else:
                hit = ((x >= bound) & (x > 0)).to(tl.int32)
            place = n + tl.cumsum(hit, 0) - 1
            fits = (hit > 0) & (place < limit)
            tl.store(at_values + place, x, mask=fits)
            tl.store(at_features + place, at, mask=fits)
            n += tl.sum(hit)
        if (n > room) & (trial == 0):
            # Where a token's entries stand there depends on who came first; what stands there does not.
            begin = tl.atomic_add(cursor, n.to(tl.int64))  # type: ignore[attr-defined]
            if begin + n <= more_room:
                tl.store(starts + out, begin)
                at_values = more_values + begin
                at_features = more_features + begin
                limit = n
                trials = 2
            else:
                tl.store(starts + out, -1)
        trial += 1
    tl.store(counts + out, n)


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
    values, features, starts, more_values, more_features, offsets, flat_values, flat_features, room,
    BLOCK: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    count = tl.load(offsets + row + 1) - begin
    # A token's candidates stand in its own room, or in the shared one.
    at_values = values + row * room
    at_features = features + row * room
    if count > room:
        at_values = more_values + tl.load(starts + row).to(tl.int64)
        at_features = more_features + tl.load(starts + row).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    for start in range(0, count, BLOCK):
        fits = start + lanes < count
        tl.store(flat_values + begin + start + lanes, tl.load(at_values + start + lanes, mask=fits), mask=fits)
        if FEATURES:
            feature = tl.load(at_features + start + lanes, mask=fits).to(tl.int64)
            tl.store(flat_features + begin + start + lanes, feature, mask=fits)


@Kernel
def _tally_kernel(flat_values, offsets, smallest, tallies, b, BLOCK: tl.constexpr):
    # How many of a token's candidates exceed the smallest kept value, and how many equal it.
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + row)
    count = tl.load(offsets + row + 1) - begin
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
    kept_values, kept_features, kept_offsets, b, n, room, BLOCK: tl.constexpr,
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
        at_features = more_features + tl.load(starts + row).to(tl.int64)
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


def candidates(pre: Preactivations, kind: BoundKind, *, k: int, bound: Tensor | None) -> Candidates:
    """All positive entries that reach a bound: their token's own (so that at least k reach it), one for the batch, or
    strictly their feature's."""
    b, f, device = pre.centred.shape[0], pre.weight.shape[0], pre.centred.device
    room, more = room_for(k), 0 if kind == "row" else SHARED_ROOM * k * b
    values = torch.empty(b, room, device=device)
    features = torch.empty(b, room, dtype=torch.int32, device=device)
    counts, starts = torch.empty(2, b, dtype=torch.int32, device=device)
    more_values = torch.empty(more, device=device)
    more_features = torch.empty(more, dtype=torch.int32, device=device)
    # 64 bits: tokens without room are counted too, and all of them together may pass 2**31 entries.
    cursor = torch.zeros(1, dtype=torch.int64, device=device)
    held = torch.empty(-(-b // pre.n_chunks), device=device) if bound is None else bound
    n_groups, which = triton.cdiv(f, GROUP), _KINDS[kind]
    # With fewer groups than k no maximum bounds the k-th largest: all that is positive competes.
    wanted = k if k <= min(n_groups, WIDTH) else 1 << 30
    maxima = torch.empty(-(-b // pre.n_chunks), n_groups, device=device)
    hits = torch.empty_like(maxima, dtype=torch.int32)
    for offset, chunk in pre.raw_chunks():
        c, block = chunk.shape[0], min(128, triton.next_power_of_2(n_groups))
        _maxima_kernel[(c, triton.cdiv(n_groups, block))](
            chunk, held, maxima, f, n_groups, KIND=which, GROUP=GROUP, BLOCK=block, num_warps=4
        )
        if bound is None:
            _row_bounds_kernel[(c,)](maxima, held, n_groups, K=wanted, WIDTH=WIDTH, num_warps=4)
        _candidates_kernel[(c,)](
            chunk, maxima, held, hits, values, features, counts, starts, more_values, more_features, cursor, f,
            n_groups, pre.n_chunks, offset, room, more,
            KIND=which, GROUP=GROUP, WIDTH=WIDTH, TILE=WIDTH // GROUP, num_warps=4,
        )  # fmt: skip
    return Candidates(values, features, counts, starts, more_values, more_features)


def room_for(k: int) -> int:
    """Candidates for which a token has room of its own, a power of two."""
    return max(LEAST_ROOM, 1 << (ROOM_PER_TOKEN * k - 1).bit_length())


def per_token(pre: Preactivations, k: int) -> Code | None:
    """The k largest positive pre-activations of every token; None where a token has too many candidates."""
    found = candidates(pre, "row", k=k, bound=None)
    b, device = found.counts.shape[0], found.values.device
    values = torch.empty(b, k, device=device)
    features = torch.empty(b, k, dtype=torch.int64, device=device)
    counts = torch.empty(b, dtype=torch.int32, device=device)
    room = found.room
    _largest_kernel[(b,)](
        found.values, found.features, found.counts, values, features, counts, room, K=k, ROOM=room, num_warps=1
    )
    most, least = torch.stack((found.counts.amax(), counts.amin())).tolist()
    if most > room:
        return None
    d_sae = pre.weight.shape[0]
    if least == k:
        offsets = torch.arange(0, b * k + 1, k, device=device)
        return Code(values.view(-1), features.view(-1), offsets, d_sae)
    there = torch.arange(k, device=device) < counts[:, None]
    return Code(values[there], features[there], offsets_of(counts.long()), d_sae)


def per_batch(pre: Preactivations, k: int, bound: Float[Tensor, "1 1"]) -> Code | None:
    """The k·b largest positive pre-activations; None if fewer reach the bound, or more than there is room for."""
    found = candidates(pre, "batch", k=k, bound=bound)
    b, device, n = found.counts.shape[0], found.values.device, k * found.counts.shape[0]
    offsets = offsets_of(found.counts)
    total = _total(found, offsets)
    if total is None or total < n:
        return None
    flat = _packed(found, offsets, total, with_features=False)[0]
    smallest = flat.sort(descending=True).values[n - 1 : n]
    tallies = torch.empty(2, b, dtype=torch.int32, device=device)
    _tally_kernel[(b,)](flat, offsets, smallest, tallies, b, BLOCK=found.room, num_warps=1)
    sums = tallies.cumsum(1)
    values = torch.empty(n, device=device)
    features = torch.empty(n, dtype=torch.int64, device=device)
    kept_offsets = torch.empty(b + 1, dtype=torch.int64, device=device)
    _keep_kernel[(b,)](
        flat, found.features, found.starts, found.more_features, offsets, smallest, sums, tallies,
        values, features, kept_offsets, b, n, found.room, BLOCK=found.room, num_warps=1,
    )  # fmt: skip
    return Code(values, features, kept_offsets, pre.weight.shape[0])


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
    homeless = torch.where(found.counts > found.room, found.starts, 0).amin()
    total, least = torch.stack((offsets[-1], homeless)).tolist()
    return int(total) if least >= 0 else None


def _packed(
    found: Candidates, offsets: Int[Tensor, " b_plus_1"], size: int, *, with_features: bool
) -> tuple[Float[Tensor, " m"], Int[Tensor, " _"]]:
    """Candidates of all tokens behind one another: values and, if asked for, features."""
    values = torch.empty(size, device=found.values.device)
    features = torch.empty(size if with_features else 0, dtype=torch.int64, device=found.values.device)
    _pack_kernel[(found.counts.shape[0],)](
        found.values, found.features, found.starts, found.more_values, found.more_features, offsets, values, features,
        found.room, BLOCK=found.room, FEATURES=with_features, num_warps=1,
    )  # fmt: skip
    return values, features
