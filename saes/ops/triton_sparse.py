"""Sums over sparse entries on a GPU: segment sums, gathered products and prefix residuals, without float atomics.

Sums are taken in a fixed order, so that the same inputs give the same bytes. The twins are in saes.ops.sparse.
Axes: n entries, s segments, r rows of a matrix, d width, b tokens, g prefixes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from saes.ops.launch import Kernel

PIECE = 128
"""Entries of a segment that one program adds up: a feature that fires on every second token must not make all wait."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Segments of more than PIECE entries cut into pieces, without asking the device how many there are.

    Shapes: offsets (s + 1,) of all segments; table (2, p): where each piece begins and ends, -1 where there are fewer;
    long (3, q): segments of several pieces, -1 where there are fewer, their first piece and that behind the last.
    """

    offsets: Int[Tensor, " s_plus_1"]
    table: Int[Tensor, "2 p"]
    long: Int[Tensor, "3 q"]

    @property
    def n_segments(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def n_pieces(self) -> int:
        return self.table.shape[1]

    @property
    def n_long(self) -> int:
        return self.long.shape[1]

    @staticmethod
    def of(offsets: Int[Tensor, " s_plus_1"], n: int) -> "Pieces":
        """From where each segment begins; `n` entries in all."""
        most = n // PIECE
        # A segment of more than PIECE entries has fewer than twice as many pieces as full ones.
        cells = torch.full((2 * 2 * most + 3 * most + 2,), -1, dtype=torch.int32, device=offsets.device)
        table, long = cells[: 4 * most].view(2, 2 * most), cells[4 * most : 7 * most].view(3, most)
        if most:
            n_segments = offsets.shape[0] - 1
            _cut_kernel[(triton.cdiv(n_segments, 256),)](
                offsets, table, long, cells[7 * most :], n_segments, 2 * most, most, PIECE=PIECE, BLOCK=256, num_warps=4
            )
        return Pieces(offsets, table, long)


@Kernel
def _cut_kernel(offsets, table, long, cursors, s, n_pieces, n_long, PIECE: tl.constexpr, BLOCK: tl.constexpr):
    # cursors begin at -1. Which rows a segment gets depends on who came first, what it sums there does not.
    segment = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = segment < s
    start = tl.load(offsets + segment, mask=there, other=0).to(tl.int32)
    end = tl.load(offsets + segment + 1, mask=there, other=0).to(tl.int32)
    several = end - start > PIECE
    pieces = tl.where(several, (end - start + PIECE - 1) // PIECE, 0)
    total = tl.sum(pieces)
    if total > 0:
        ones = several.to(tl.int32)
        first = tl.atomic_add(cursors, total) + 1 + tl.cumsum(pieces, 0) - pieces
        slot = tl.atomic_add(cursors + 1, tl.sum(ones)) + 1 + tl.cumsum(ones, 0) - 1
        tl.store(long + slot, segment, mask=several)
        tl.store(long + n_long + slot, first, mask=several)
        tl.store(long + 2 * n_long + slot, first + pieces, mask=several)
        for index in range(tl.max(pieces)):
            cut = several & (index < pieces)
            at = start + index * PIECE
            tl.store(table + first + index, at, mask=cut)
            tl.store(table + n_pieces + first + index, tl.minimum(at + PIECE, end), mask=cut)


@Kernel
def _combine_kernel(
    matrix, index, scale, offsets, table, out, scratch, sums, scratch_sums, s, n_pieces, d,
    PIECE: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    which = tl.program_id(0).to(tl.int64)
    if which < s:
        start = tl.load(offsets + which).to(tl.int32)
        end = tl.load(offsets + which + 1).to(tl.int32)
        wanted = end - start <= PIECE
        at_out = out + which * d
        at_sum = sums + which
    else:
        start = tl.load(table + which - s)
        end = tl.load(table + n_pieces + which - s)
        wanted = start >= 0
        at_out = scratch + (which - s) * d
        at_sum = scratch_sums + which - s
    if wanted:
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < d
        lanes = tl.arange(0, TILE)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        total_scale = 0.0
        for at in range(start, end, TILE):
            there = at + lanes < end
            row = tl.load(index + at + lanes, mask=there, other=0).to(tl.int64)
            weight = tl.load(scale + at + lanes, mask=there, other=0.0)
            cells = row[:, None] * d + columns[None, :]
            tile = tl.load(matrix + cells, mask=there[:, None] & inside[None, :], other=0.0)
            total += tl.sum(tile.to(tl.float32) * weight[:, None], axis=0)
            total_scale += tl.sum(weight)
        tl.store(at_out + columns, total, mask=inside)
        if SUMS:
            tl.store(at_sum, total_scale, mask=tl.program_id(1) == 0)


@Kernel
def _join_kernel(long, out, scratch, sums, scratch_sums, n_long, d, BLOCK: tl.constexpr, SUMS: tl.constexpr):
    which = tl.program_id(0)
    segment = tl.load(long + which).to(tl.int64)
    if segment >= 0:
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < d
        total = tl.zeros([BLOCK], dtype=tl.float32)
        total_scale = 0.0
        first = tl.load(long + n_long + which).to(tl.int64)
        for index in range(tl.load(long + 2 * n_long + which).to(tl.int64) - first):
            row = first + index
            total += tl.load(scratch + row * d + columns, mask=inside, other=0.0)
            if SUMS:
                total_scale += tl.load(scratch_sums + row)
        tl.store(out + segment * d + columns, total, mask=inside)
        if SUMS:
            tl.store(sums + segment, total_scale, mask=tl.program_id(1) == 0)


@Kernel
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


@Kernel
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


@lru_cache(maxsize=64)
def constants(numbers: tuple[float, ...], device: torch.device) -> Float[Tensor, " n"]:
    """Numbers on a device, moved there once: a copy from the host makes both wait."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)


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
    scratch = torch.empty(pieces.n_pieces, d, device=device)
    added = torch.empty(pieces.n_segments, device=device)
    scratch_added = torch.empty(pieces.n_pieces, device=device)
    block = _block_of(d, 256)
    columns = triton.cdiv(d, block)
    matrix, scale = matrix.detach().contiguous(), scale.detach().contiguous()
    _combine_kernel[(pieces.n_segments + pieces.n_pieces, columns)](
        matrix, index, scale, pieces.offsets, pieces.table, out, scratch, added, scratch_added, pieces.n_segments,
        pieces.n_pieces, d, PIECE=PIECE, TILE=4, BLOCK=block, SUMS=sums, num_warps=2,
    )  # fmt: skip
    if pieces.n_long:
        _join_kernel[(pieces.n_long, columns)](
            pieces.long, out, scratch, added, scratch_added, pieces.n_long, d, BLOCK=block, SUMS=sums, num_warps=2
        )
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
    weighing = constants(tuple(term_weights), device)
    _pulls_kernel[(b, n_blocks)](
        centred.detach().contiguous(), weight.detach().contiguous(), features, values.detach().contiguous(), offsets,
        weighing, pulls, residual, errors, b, d, G=n_groups, TILE=8, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return Pulls(errors.flatten(1).sum(1), residual, pulls)


@Kernel
def _walk_kernel(centred, term_weights, sums, residual, errors, b, d, G: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    n_blocks = tl.num_programs(1)
    columns = block * BLOCK + tl.arange(0, BLOCK)
    inside = columns < d
    left = tl.load(centred + token * d + columns, mask=inside, other=0.0)
    at_error = errors + token * n_blocks + block
    n_errors = b.to(tl.int64) * n_blocks
    tl.store(at_error, tl.sum(left * left))
    for group in range(G):
        at_group = sums + (token * G + group) * d + columns
        left = left - tl.load(at_group, mask=inside, other=0.0)
        tl.store(at_error + (group + 1) * n_errors, tl.sum(left * left))
        tl.store(at_group, left, mask=inside)
    tl.store(residual + token * d + columns, left, mask=inside)
    pull = left * tl.load(term_weights + G)
    tl.store(sums + (token * G + G - 1) * d + columns, pull, mask=inside)
    # Each lane reads back only what it wrote itself.
    for below in range(1, G):
        group = G - 1 - below
        at_group = sums + (token * G + group) * d + columns
        pull += tl.load(at_group, mask=inside, other=0.0) * tl.load(term_weights + group + 1)
        tl.store(at_group, pull, mask=inside)


def walked_pulls(centred: Float[Tensor, "b d"], sums: Float[Tensor, "b g d"], term_weights: Sequence[float]) -> Pulls:
    """As `prefix_pulls`, for group sums that are there already; they turn into the pulls."""
    b, d = centred.shape
    n_groups, device = len(term_weights) - 1, centred.device
    block = _block_of(d, 512)
    n_blocks = triton.cdiv(d, block)
    residual = torch.empty(b, d, device=device)
    errors = torch.empty(n_groups + 1, b, n_blocks, device=device)
    _walk_kernel[(b, n_blocks)](
        centred.detach().contiguous(), constants(tuple(term_weights), device), sums, residual, errors, b, d,
        G=n_groups, BLOCK=block, num_warps=4,
    )  # fmt: skip
    return Pulls(errors.flatten(1).sum(1), residual, sums)
