"""The sparse step: values, reconstructions and exact gradients that touch active features only.

Every heavy operation is a sum of weighted rows over segments (`embedding_bag`), which adds in a fixed order, so that
the same inputs give the same bytes. The plain twins are in saes.ops.dense.
Axes: b tokens, d width of the activations, f features, n active entries, g prefixes, m extra rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.code import Code, offsets_of
from saes.ops.acceleration import accelerated

BLOCK_ROWS = 128
"""Tokens whose residuals are walked together: 5 groups of 512 floats are 1.3 MB."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Where a code is not zero, in both orders: by (token, feature) as in the code, and by (feature, token).

    Shapes: rows, features, by_feature (n,): the order that sorts by feature; feature_offsets (f + 1,).
    """

    rows: Int[Tensor, " n"]
    features: Int[Tensor, " n"]
    row_offsets: Int[Tensor, " b_plus_1"]
    by_feature: Int[Tensor, " n"]
    feature_offsets: Int[Tensor, " f_plus_1"]
    pieces: Any = None
    """The by-feature segments cut for the GPU's kernels."""

    @staticmethod
    def of(code: Code) -> "Pattern":
        """Both orders of a code's entries."""
        # A stable sort of 32-bit keys is a radix sort: ten times faster than of 64-bit ones.
        ascending, by_feature = code.features.int().sort(stable=True)
        if accelerated(code.values):
            # Counting would ask the device how large the largest is.
            ids = torch.arange(code.d_sae + 1, device=ascending.device, dtype=ascending.dtype)
            offsets = torch.searchsorted(ascending, ids)
            pieces = _kernels().Pieces.of(offsets, ascending.shape[0])
            return Pattern(code.rows(), code.features, code.row_offsets, by_feature, offsets, pieces)
        counts = torch.bincount(code.features, minlength=code.d_sae)
        return Pattern(code.rows(), code.features, code.row_offsets, by_feature, offsets_of(counts))

    def bags(self, widths: Sequence[int]) -> tuple[Int[Tensor, " n"], Int[Tensor, " b_times_g_plus_1"]]:
        """For each entry its (token, prefix group) as one number, and where each of these begins.

        Entries ascend by (token, feature) and groups are ranges of features, so they already ascend by this number.
        """
        if len(widths) == 1:
            return self.rows, self.row_offsets
        inner = constants_like(tuple(float(width) for width in widths[:-1]), self.row_offsets)
        bags = self.rows * len(widths) + torch.bucketize(self.features, inner, right=True)
        n_bags = (self.row_offsets.shape[0] - 1) * len(widths)
        if self.pieces is not None:
            return bags, torch.searchsorted(bags, torch.arange(n_bags + 1, device=bags.device, dtype=bags.dtype))
        return bags, offsets_of(torch.bincount(bags, minlength=n_bags))


def constants_like(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    """Numbers beside a tensor and of its type; moved to a device once, since a copy makes it and the host wait."""
    return _kept(numbers, like.device, like.dtype)


@lru_cache(maxsize=256)
def _kept(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, device=device, dtype=dtype)


def combine(
    matrix: Float[Tensor, "r d"],
    index: Int[Tensor, " n"],
    offsets: Int[Tensor, " s_plus_1"],
    scale: Float[Tensor, " n"],
    pieces: Any = None,
) -> Float[Tensor, "s d"]:
    """For each segment the sum of scale · matrix[index] over its entries. Carries no gradient.

    `pieces` are the segments as a GPU's kernels take them, if they have been cut already.
    """
    if accelerated(matrix):
        cut = _kernels().Pieces.of(offsets, index.shape[0]) if pieces is None else pieces
        found: Tensor = _kernels().combine(matrix, index, cut, scale)[0]
        return found
    # Detached, since embedding_bag prepares for a backward pass of its own otherwise.
    matrix, scale = matrix.detach(), scale.detach()
    return embedding_bag(index, matrix, offsets, mode="sum", per_sample_weights=scale, include_last_offset=True)


def _kernels() -> Any:
    """Imported where they are used: triton is not installed everywhere."""
    from saes.ops import triton_sparse

    return triton_sparse


def gathered_dot(
    left: Float[Tensor, "s d"], left_index: Int[Tensor, " n"], right: Float[Tensor, "r d"], index: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """left[left_index] · right[index], entry by entry, without gathering either."""
    if accelerated(left):
        found: Tensor = _kernels().gathered_dot(left, left_index, right, index)
        return found
    # What embedding_bag calls the gradient of its weights is this product, in one fused operator.
    dot = torch.ops.aten._embedding_bag_per_sample_weights_backward
    result: Tensor = dot(left, right, index, left_index[:0], left_index, 0)
    return result


class _EncodeValues(torch.autograd.Function):
    """Attach gradients to selected values; hand out extra rows of the encoder whose gradients join the same sums."""

    @staticmethod
    def forward(
        ctx: Any,
        centred: Tensor,
        _centre: Tensor,
        weight: Tensor,
        bias: Tensor,
        values: Tensor,
        pattern: Pattern,
        extra: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(centred, weight, extra)
        ctx.pattern = pattern
        return values.clone(), weight[extra], bias[extra]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, grad_rows, grad_biases = grads
        centred, weight, extra = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        order, ends = pattern.by_feature, pattern.feature_offsets
        sorted_grad = grad[order]
        if accelerated(grad):
            taken = pattern.rows[order], pattern.pieces, sorted_grad
            grad_weight, grad_bias = _kernels().combine(centred, *taken, sums=True)
        else:
            grad_bias = torch.segment_reduce(sorted_grad, "sum", offsets=ends, initial=0)
            grad_weight = combine(centred, pattern.rows[order], ends, sorted_grad)
        grad_centre = -(grad_bias @ weight)
        grad_weight.index_add_(0, extra, grad_rows)
        grad_bias.index_add_(0, extra, grad_biases)
        grad_centred = None
        if ctx.needs_input_grad[0]:
            grad_centred = combine(weight, pattern.features, pattern.row_offsets, grad)
        return grad_centred, grad_centre, grad_weight, grad_bias, None, None, None


class _Decode(torch.autograd.Function):
    """Sum of value · decoder row over each token's entries."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.pattern = pattern
        return combine(weight, pattern.features, pattern.row_offsets, values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        values, weight = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        order = pattern.by_feature
        grad = grad.contiguous()
        grad_values = gathered_dot(grad, pattern.rows, weight, pattern.features)
        grad_weight = combine(grad, pattern.rows[order], pattern.feature_offsets, values[order], pattern.pieces)
        return grad_values, grad_weight, None


class _PrefixLosses(torch.autograd.Function):
    """Squared errors of nested prefixes and their weighted sum, whose gradient is ready when the errors are."""

    @staticmethod
    def forward(
        ctx: Any,
        centred: Tensor,
        _centre: Tensor,
        values: Tensor,
        weight: Tensor,
        pattern: Pattern,
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
        extra: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bags, offsets = pattern.bags(widths)
        if accelerated(centred):
            found = _kernels().prefix_pulls(centred, weight, pattern.features, values, offsets, term_weights)
            errors, residual, sums = found.errors / centred.shape[0], found.residual, found.pulls
            centre_pull = sums[:, 0].sum(0) + term_weights[0] * centred.sum(0)
        else:
            sums = combine(weight, pattern.features, offsets, values)
            sums = sums.view(centred.shape[0], len(widths), weight.shape[1])
            errors, residual, centre_pull = errors_into_pulls(centred, sums, term_weights)
        ctx.save_for_backward(centred, values, weight, extra, sums, bags, centre_pull)
        ctx.pattern, ctx.bias_weight = pattern, term_weights[0]
        ctx.mark_non_differentiable(errors, residual)
        weighing = constants_like(term_weights, errors)
        return (errors * weighing).sum(), errors, residual, weight[extra]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_loss, _, _, grad_rows = grads
        centred, values, weight, extra, pulls, bags, centre_pull = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        slope = grad_loss * (-2 / centred.shape[0])
        flat, order = pulls.view(-1, centred.shape[1]), pattern.by_feature
        grad_values = gathered_dot(flat, bags, weight, pattern.features) * slope
        grad_weight = combine(flat, bags[order], pattern.feature_offsets, values[order] * slope, pattern.pieces)
        grad_weight.index_add_(0, extra, grad_rows)
        grad_centred = None
        if ctx.needs_input_grad[0]:
            grad_centred = (pulls[:, 0] + ctx.bias_weight * centred) * -slope
        return grad_centred, centre_pull * slope, grad_values, grad_weight, None, None, None, None


def errors_into_pulls(
    centred: Float[Tensor, "b d"], sums: Float[Tensor, "b g d"], term_weights: Sequence[float]
) -> tuple[Float[Tensor, " g_plus_1"], Float[Tensor, "b d"], Float[Tensor, " d"]]:
    """Errors of all prefixes, the last residual, and the bias's pull; `sums` turns into the pull on each group.

    A group's pull is the weighted sum of the residuals of all prefixes that contain it. On a processor tokens go in
    blocks that stay in the cache while their groups are walked up (residuals) and down (pulls).
    """
    if accelerated(centred):
        found = _kernels().walked_pulls(centred, sums, term_weights)
        return found.errors / centred.shape[0], found.residual, sums[:, 0].sum(0) + term_weights[0] * centred.sum(0)
    n_groups = sums.shape[1]
    errors = centred.new_zeros(n_groups + 1)
    residual = torch.empty_like(centred)
    size = BLOCK_ROWS if centred.device.type == "cpu" else centred.shape[0]
    for rows in range(0, centred.shape[0], size):
        block, groups = centred[rows : rows + size], sums[rows : rows + size].unbind(1)
        errors[0] += block.square().sum()
        for group, left in enumerate(groups):
            torch.sub(block, left, out=left)
            errors[group + 1] += left.square().sum()
            block = left
        residual[rows : rows + size] = block
        groups[-1].mul_(term_weights[-1])
        for group in range(n_groups - 2, -1, -1):
            torch.add(groups[group + 1], groups[group], alpha=term_weights[group + 1], out=groups[group])
    centre_pull = sums[:, 0].sum(0) + term_weights[0] * centred.sum(0)
    return errors / centred.shape[0], residual, centre_pull


def encode_values(
    centred: Float[Tensor, "b d"],
    centre: Float[Tensor, " d"],
    weight: Float[Tensor, "f d"],
    bias: Float[Tensor, " f"],
    values: Float[Tensor, " n"],
    pattern: Pattern,
    extra: Int[Tensor, " m"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """The selected `values` of relu(centred weightᵀ + bias) with gradients, and the rows `extra` of weight and bias.

    `centred` is x minus the detached `centre`, which gets its gradient here, by one product instead of one per token.
    Gradients of the extra rows are added to the same buffers, which saves passes over the weights.
    """
    apply: Any = _EncodeValues.apply
    result: tuple[Tensor, Tensor, Tensor] = apply(centred, centre, weight, bias, values, pattern, extra)
    return result


def sparse_decode(
    values: Float[Tensor, " n"], weight: Float[Tensor, "f d"], bias: Float[Tensor, " d"], pattern: Pattern
) -> Float[Tensor, "b d"]:
    """Reconstruction from a sparse code."""
    apply: Any = _Decode.apply
    result: Tensor = apply(values, weight, pattern)
    return result + bias


@dataclass(frozen=True, slots=True)
class PrefixLosses:
    """Loss and errors of nested prefixes. Only `loss` and `extra_rows` carry gradients.

    Shapes: errors (g + 1,), of the bias alone, then of each prefix; residual (b, d) of the last; extra_rows (m, d).
    Units: squared error summed over d, mean over tokens.
    """

    loss: Float[Tensor, ""]
    errors: Float[Tensor, " g_plus_1"]
    residual: Float[Tensor, "b d"]
    extra_rows: Float[Tensor, "m d"]


def prefix_losses(
    centred: Float[Tensor, "b d"],
    centre: Float[Tensor, " d"],
    values: Float[Tensor, " n"],
    weight: Float[Tensor, "f d"],
    pattern: Pattern,
    widths: tuple[int, ...],
    term_weights: tuple[float, ...],
    extra: Int[Tensor, " m"],
) -> PrefixLosses:
    """Reconstruct `centred` (target minus the detached decoder bias `centre`) by every prefix of the dictionary.

    Prefix decodes add up over disjoint groups of features, so all of them together cost one sparse decode; so do their
    gradients, since a group is pulled by the sum of the residuals of the prefixes that contain it.
    """
    apply: Any = _PrefixLosses.apply
    return PrefixLosses(*apply(centred, centre, values, weight, pattern, widths, term_weights, extra))
