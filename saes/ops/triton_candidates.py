"""Candidates for a selection on a GPU: kernels that read the pre-activations once or twice and write these alone.

Axes: b tokens, c tokens of a chunk, f features, r candidates that a token may have, m further candidates.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

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
