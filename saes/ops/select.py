"""Exact selection of active features without sorting all of them.

Ties are broken by (value descending, token ascending, feature ascending). What is not positive is never active.
Axes: b tokens, c tokens of a chunk, f features, n entries, m entries that compete.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import Code, offsets_of
from saes.ops.acceleration import accelerated
from saes.ops.encode import Preactivations

GROUP = 16
"""Features that share one maximum: a group is looked into only if its maximum reaches the bound."""
SAMPLE_TOKENS = 256
"""Tokens that a GPU looks at to estimate that bound, before it has looked at any other."""
SAMPLE = 1 << 17
"""Pre-activations from which the bound of a batch selection is estimated."""
MARGIN = 2.0
"""Candidates aimed at per entry kept: 1.25 failed for 3 batches in 12 with log-normal token norms, 2 for none."""

Bound = Float[Tensor, "c_or_1 1"]


@dataclass(frozen=True, slots=True)
class Selection:
    """A code, and how many more passes its selection took because the first bound was too high.

    `holds`, of a provisional one: whether the code is what was asked for, as the device alone knows. If not, its shapes
    and indices are still in range.
    """

    code: Code
    fallbacks: int
    holds: Bool[Tensor, ""] | None = None


def select_per_token(pre: Preactivations, k: int) -> Selection:
    """The k largest positive pre-activations of every token."""
    if accelerated(pre.centred):
        if pre.provisional:
            code, holds = _kernels().per_token_provisionally(pre, k)
            return Selection(code, 0, holds)
        if (found := _kernels().per_token(pre, k)) is not None:
            return Selection(found, 0)
    code = _candidates(pre, lambda _, maxima: _bound_per_row(maxima, k))
    counts = code.row_offsets.diff()
    widest = int(counts.max()) if counts.numel() else 0
    if widest <= k:
        return Selection(code, 0)
    rows = code.rows()
    place = torch.arange(rows.shape[0], device=rows.device) - code.row_offsets[rows]
    padded = code.values.new_zeros(counts.shape[0], widest)
    padded[rows, place] = code.values
    return Selection(_kept(code, largest(padded, k)[rows, place]), 0)


def select_per_batch(pre: Preactivations, k: int) -> Selection:
    """The k·b largest positive pre-activations of the batch: k per token on average.

    The first chunk, a strided sample, gives a bound that about MARGIN·k·b entries reach. If fewer than k·b do, the
    pass is repeated with a bound four times laxer, at last with all positive entries.
    Source: Bussmann et al. 2024 (BatchTopK), section 3.
    """
    n = k * pre.centred.shape[0]
    margin, fallbacks = MARGIN, 0
    if accelerated(pre.centred) and not (sampled := _SampledBound(margin * k / pre.weight.shape[0])).takes_all:
        sample = pre.of_sample(SAMPLE_TOKENS)
        if pre.provisional:
            code, holds = _kernels().per_batch_provisionally(pre, k, sampled(sample, sample))
            return Selection(code, 0, holds)
        if (found := _kernels().per_batch(pre, k, sampled(sample, sample))) is not None:
            return Selection(found, 0)
        fallbacks = 1
    while True:
        bound = _SampledBound(margin * k / pre.weight.shape[0])
        code = _candidates(pre, bound)
        if code.values.shape[0] >= n or bound.takes_all:
            return Selection(_kept(code, largest(code.values[None], n)[0]), fallbacks)
        margin, fallbacks = 4 * margin, fallbacks + 1


def select_above(pre: Preactivations, threshold: Float[Tensor, ""]) -> Selection:
    """All positive pre-activations strictly above the threshold, as a JumpReLU takes them."""
    bound = _next_above(threshold.clamp(min=0)).to(pre.centred.dtype).reshape(1, 1)
    return Selection(_candidates(pre, lambda *_: bound), 0)


def select_above_each(pre: Preactivations, threshold: Float[Tensor, " f"], *, k: int = 32) -> Selection:
    """All positive pre-activations strictly above their feature's threshold; `k` is how many a token may have."""
    if accelerated(pre.centred) and (found := _kernels().above_each(pre, threshold, k)) is not None:
        return Selection(found, 0)
    code = select_above(pre, threshold.min()).code
    return Selection(code.keep(code.values > threshold[code.features]), 0)


def _kernels() -> Any:
    """Imported where they are used: triton is not installed everywhere."""
    from saes.ops import triton_select

    return triton_select


def largest(values: Float[Tensor, "r m"], k: int) -> Bool[Tensor, "r m"]:
    """Which entries of each row are its k largest positive ones; among equals the first are taken."""
    positive = values > 0
    if k >= values.shape[1]:
        return positive
    smallest = values.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, equal = values > smallest, values == smallest
    room = k - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= room))) & positive


def _bound_per_row(maxima: Float[Tensor, "c g"], k: int) -> Bound:
    """The k-th largest maximum of disjoint groups: at least k entries of the row reach it."""
    # Merging groups while many more than k remain loosens the bound little and quarters the cost of topk.
    while maxima.shape[1] >= 8 * k and maxima.shape[1] % 2 == 0:
        maxima = maxima.unflatten(1, (2, -1)).amax(1)
    least = _least_positive(maxima)
    if maxima.shape[1] <= k:
        return least.reshape(1, 1)
    return torch.maximum(maxima.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True), least)


class _SampledBound:
    """A value that about `share` of the first chunk's entries reach, estimated once and then kept."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.takes_all = share >= 1
        self.value: Bound | None = None

    def __call__(self, chunk: Float[Tensor, "c f"], _: Tensor) -> Bound:
        if self.value is None:
            self.value = self._estimate(chunk)
        return self.value

    def _estimate(self, chunk: Float[Tensor, "c f"]) -> Bound:
        least = _least_positive(chunk).reshape(1, 1)
        if self.takes_all:
            return least
        # An odd stride visits all features, though their number is mostly a power of two.
        stride = max(1, chunk.numel() // SAMPLE) | 1
        sample = chunk.reshape(-1)[::stride]
        rank = min(math.ceil(self.share * sample.shape[0]), sample.shape[0])
        return torch.maximum(sample.topk(rank, sorted=False).values.amin(), least)


def _candidates(pre: Preactivations, bound_of: Callable[[Tensor, Tensor], Bound]) -> Code:
    """All entries that reach the bound of their chunk, which is found from it and its group maxima, as a code."""
    n_rows, d_sae, n_chunks = pre.centred.shape[0], pre.weight.shape[0], pre.n_chunks
    # 32-bit keys sort ten times faster.
    key_dtype = torch.int32 if n_rows * d_sae < 2**31 else torch.int64
    keys, values = [], []
    for offset, chunk in pre:
        rows, features, reached = _reaching(chunk, bound_of)
        keys.append(((rows * n_chunks + offset) * d_sae + features).to(key_dtype))
        values.append(reached)
    sorted_keys, order = torch.cat(keys).sort()
    position = sorted_keys.long()
    counts = torch.bincount(position // d_sae, minlength=n_rows)
    return Code(torch.cat(values)[order], position % d_sae, offsets_of(counts), d_sae)


def _reaching(
    chunk: Float[Tensor, "c f"], bound_of: Callable[[Tensor, Tensor], Bound]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Row, feature and value of the entries that reach the bound; groups below it are not looked into."""
    # Groups of strided features, since a maximum over the middle axis is vectorised.
    size = math.gcd(chunk.shape[1], GROUP)
    grouped = chunk.unflatten(1, (size, -1))
    maxima = grouped.amax(1)
    bound = bound_of(chunk, maxima)
    rows, groups = (maxima >= bound).nonzero(as_tuple=True)
    members = grouped[rows, :, groups]
    hit, member = (members >= bound.expand(chunk.shape[0], 1)[rows]).nonzero(as_tuple=True)
    return rows[hit], member * maxima.shape[1] + groups[hit], members[hit, member]


def _kept(code: Code, keep: Bool[Tensor, " n"]) -> Code:
    index = keep.nonzero()[:, 0]
    counts = torch.bincount(code.rows()[index], minlength=code.n_rows)
    return Code(code.values[index], code.features[index], offsets_of(counts), code.d_sae)


def _least_positive(like: Tensor) -> Tensor:
    return _next_above(like.new_zeros(()))


def _next_above(value: Tensor) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, torch.inf))
