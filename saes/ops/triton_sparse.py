"""Sums over sparse entries on a GPU: segment sums, gathered products and prefix residuals, without float atomics.

Sums are taken in a fixed order, so that the same inputs give the same bytes. The twins are in saes.ops.sparse.
Axes: n entries, s segments, r rows of a matrix, d width, b tokens, g prefixes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

PIECE = 128
"""Entries of a segment that one program adds up: a feature that fires on every second token must not make all wait."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Segments cut into pieces of at most PIECE entries; built without asking the device how many there are.

    Shapes: starts, ends, targets (m,), where m is the most that there can be. A piece whose target is t >= 0 is the
    whole of segment t; one whose target is -1 - i is row i of the scratch; starts = ends = -1 is no piece. long (q,):
    segments of several pieces, -1 where there are fewer; first, last (q,): their rows of the scratch.
    """

    starts: Int[Tensor, " m"]
    ends: Int[Tensor, " m"]
    targets: Int[Tensor, " m"]
    long: Int[Tensor, " q"]
    first: Int[Tensor, " q"]
    last: Int[Tensor, " q"]
    n_segments: int
    n_scratch: int

    @staticmethod
    def of(offsets: Int[Tensor, " s_plus_1"], n: int) -> "Pieces":
        """From where each segment begins; `n` entries in all."""
        device, s = offsets.device, offsets.shape[0] - 1
        counts = offsets.diff()
        pieces = ((counts + (PIECE - 1)) // PIECE).clamp(min=1)
        ends_of = pieces.cumsum(0)
        most = s + n // PIECE
        index = torch.arange(most, device=device)
        segment = torch.searchsorted(ends_of, index, right=True)
        there = segment < s
        segment = segment.clamp(max=s - 1)
        inside = index - (ends_of - pieces)[segment]
        start = offsets[segment] + inside * PIECE
        end = torch.minimum(start + PIECE, offsets[segment + 1])
        several = pieces > 1
        scratch_ends = torch.where(several, pieces, 0).cumsum(0)
        scratch_first = scratch_ends - torch.where(several, pieces, 0)
        target = torch.where(several[segment], -1 - (scratch_first[segment] + inside), segment)
        n_long = n // PIECE + 1
        place = torch.where(several, several.cumsum(0) - 1, n_long)
        ids = torch.arange(s, device=device)
        long = torch.full((n_long + 1,), -1, device=device).scatter_(0, place, ids)[:n_long]
        at = long.clamp(min=0)
        return Pieces(
            torch.where(there, start, -1),
            torch.where(there, end, -1),
            target,
            long,
            scratch_first[at],
            scratch_ends[at],
            s,
            2 * (n // PIECE) + 2,
        )


@triton.jit
def _combine_kernel(
    matrix,
    index,
    scale,
    starts,
    ends,
    targets,
    out,
    scratch,
    sums,
    scratch_sums,
    d,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
    SUMS: tl.constexpr,
):
    piece = tl.program_id(0)
    start = tl.load(starts + piece)
    if start >= 0:
        end = tl.load(ends + piece)
        target = tl.load(targets + piece)
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < d
        lanes = tl.arange(0, TILE)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        total_scale = 0.0
        for at in range(start, end, TILE):
            there = at + lanes < end
            row = tl.load(index + at + lanes, mask=there, other=0).to(tl.int64)
            weight = tl.load(scale + at + lanes, mask=there, other=0.0)
            tile = tl.load(
                matrix + row[:, None] * d + columns[None, :], mask=there[:, None] & inside[None, :], other=0.0
            )
            total += tl.sum(tile.to(tl.float32) * weight[:, None], axis=0)
            total_scale += tl.sum(weight)
        first = tl.program_id(1) == 0
        if target >= 0:
            tl.store(out + target * d + columns, total, mask=inside)
            if SUMS:
                tl.store(sums + target, total_scale, mask=first)
        else:
            tl.store(scratch + (-1 - target) * d + columns, total, mask=inside)
            if SUMS:
                tl.store(scratch_sums + (-1 - target), total_scale, mask=first)


@triton.jit
def _join_kernel(long, first, last, out, scratch, sums, scratch_sums, d, BLOCK: tl.constexpr, SUMS: tl.constexpr):
    which = tl.program_id(0)
    segment = tl.load(long + which)
    if segment >= 0:
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < d
        total = tl.zeros([BLOCK], dtype=tl.float32)
        total_scale = 0.0
        for row in range(tl.load(first + which), tl.load(last + which)):
            total += tl.load(scratch + row * d + columns, mask=inside, other=0.0)
            if SUMS:
                total_scale += tl.load(scratch_sums + row)
        tl.store(out + segment * d + columns, total, mask=inside)
        if SUMS:
            tl.store(sums + segment, total_scale, mask=tl.program_id(1) == 0)


@triton.jit
def _dot_kernel(left, left_index, right, right_index, out, n, d, TILE: tl.constexpr, BLOCK: tl.constexpr):
    entries = tl.program_id(0) * TILE + tl.arange(0, TILE)
    there = entries < n
    rows = tl.load(left_index + entries, mask=there, other=0).to(tl.int64)
    others = tl.load(right_index + entries, mask=there, other=0).to(tl.int64)
    total = tl.zeros([TILE], dtype=tl.float32)
    for start in range(0, d, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = there[:, None] & (columns < d)[None, :]
        a = tl.load(left + rows[:, None] * d + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        b = tl.load(right + others[:, None] * d + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(a * b, axis=1)
    tl.store(out + entries, total, mask=there)


@triton.jit
def _pulls_kernel(
    centred,
    weight,
    features,
    values,
    offsets,
    term_weights,
    pulls,
    residual,
    errors,
    b,
    d,
    G: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    n_blocks = tl.num_programs(1)
    columns = block * BLOCK + tl.arange(0, BLOCK)
    inside = columns < d
    lanes = tl.arange(0, TILE)
    left = tl.load(centred + token * d + columns, mask=inside, other=0.0)
    at_error = errors + token * n_blocks + block
    n_errors = b.to(tl.int64) * n_blocks
    tl.store(at_error, tl.sum(left * left))
    for group in range(G):
        start = tl.load(offsets + token * G + group)
        end = tl.load(offsets + token * G + group + 1)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for at in range(start, end, TILE):
            there = at + lanes < end
            row = tl.load(features + at + lanes, mask=there, other=0).to(tl.int64)
            value = tl.load(values + at + lanes, mask=there, other=0.0)
            tile = tl.load(
                weight + row[:, None] * d + columns[None, :], mask=there[:, None] & inside[None, :], other=0.0
            )
            total += tl.sum(tile.to(tl.float32) * value[:, None], axis=0)
        left = left - total
        tl.store(at_error + (group + 1) * n_errors, tl.sum(left * left))
        tl.store(pulls + (token * G + group) * d + columns, left, mask=inside)
    tl.store(residual + token * d + columns, left, mask=inside)
    pull = left * tl.load(term_weights + G)
    tl.store(pulls + (token * G + G - 1) * d + columns, pull, mask=inside)
    # Each lane reads back only what it wrote itself.
    for below in range(1, G):
        group = G - 1 - below
        at_group = pulls + (token * G + group) * d + columns
        pull += tl.load(at_group, mask=inside, other=0.0) * tl.load(term_weights + group + 1)
        tl.store(at_group, pull, mask=inside)


def _block_of(d: int, most: int) -> int:
    return int(min(most, max(16, triton.next_power_of_2(d))))


def combine(
    matrix: Float[Tensor, "r d"],
    index: Int[Tensor, " n"],
    pieces: Pieces,
    scale: Float[Tensor, " n"],
    *,
    sums: bool = False,
) -> tuple[Float[Tensor, "s d"], Float[Tensor, " s"]]:
    """For each segment the sum of scale · matrix[index] over its entries and, where asked for, the sum of scale."""
    d, device = matrix.shape[1], matrix.device
    out = torch.empty(pieces.n_segments, d, device=device)
    scratch = torch.empty(pieces.n_scratch, d, device=device)
    added = torch.empty(pieces.n_segments, device=device)
    scratch_added = torch.empty(pieces.n_scratch, device=device)
    block = _block_of(d, 512)
    columns = triton.cdiv(d, block)
    matrix, scale = matrix.detach().contiguous(), scale.detach().contiguous()
    _combine_kernel[(pieces.starts.shape[0], columns)](
        matrix, index, scale, pieces.starts, pieces.ends, pieces.targets, out, scratch, added, scratch_added, d,
        TILE=8, BLOCK=block, SUMS=sums, num_warps=4,
    )  # fmt: skip
    _join_kernel[(pieces.long.shape[0], columns)](
        pieces.long, pieces.first, pieces.last, out, scratch, added, scratch_added, d,
        BLOCK=block, SUMS=sums, num_warps=4,
    )  # fmt: skip
    return out, added


def gathered_dot(
    left: Float[Tensor, "s d"], left_index: Int[Tensor, " n"], right: Float[Tensor, "r d"], index: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """left[left_index] · right[index], entry by entry."""
    n, d = index.shape[0], left.shape[1]
    out = torch.empty(n, device=left.device)
    tile = 8
    if n:
        _dot_kernel[(triton.cdiv(n, tile),)](
            left.detach().contiguous(), left_index, right.detach().contiguous(), index, out, n, d,
            TILE=tile, BLOCK=_block_of(d, 256), num_warps=4,
        )  # fmt: skip
    return out


@dataclass(frozen=True, slots=True)
class Pulls:
    """Squared errors of the bias alone and of each prefix, the last residual, and the pull on each group.

    Shapes: errors (g + 1,), summed over tokens and d; residual (b, d); pulls (b, g, d).
    """

    errors: Float[Tensor, " g_plus_1"]
    residual: Float[Tensor, "b d"]
    pulls: Float[Tensor, "b g d"]


def prefix_pulls(
    centred: Float[Tensor, "b d"],
    weight: Float[Tensor, "f d"],
    features: Int[Tensor, " n"],
    values: Float[Tensor, " n"],
    offsets: Int[Tensor, " b_times_g_plus_1"],
    term_weights: Sequence[float],
) -> Pulls:
    """Decode every prefix and walk the residuals up and down, one token's columns in one program."""
    b, d = centred.shape
    n_groups, device = len(term_weights) - 1, centred.device
    block = _block_of(d, 512)
    n_blocks = triton.cdiv(d, block)
    pulls = torch.empty(b, n_groups, d, device=device)
    residual = torch.empty(b, d, device=device)
    errors = torch.empty(n_groups + 1, b, n_blocks, device=device)
    weighing = torch.tensor(term_weights, dtype=torch.float32, device=device)
    _pulls_kernel[(b, n_blocks)](
        centred.detach().contiguous(), weight.detach().contiguous(), features, values.detach().contiguous(), offsets,
        weighing, pulls, residual, errors, b, d, G=n_groups, TILE=8, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return Pulls(errors.flatten(1).sum(1), residual, pulls)
