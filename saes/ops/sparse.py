"""The sparse step: values, reconstructions and exact gradients that touch active features only.

Every heavy operation is a sum of weighted rows over segments (`embedding_bag`), which adds in a fixed order, so that
the same inputs give the same bytes. The plain twins are in saes.ops.dense.
Axes: b tokens, d width of the activations, f features, n active entries, g prefixes, m extra rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.code import Code, offsets_of


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

    @staticmethod
    def of(code: Code) -> "Pattern":
        """Both orders of a code's entries."""
        # A stable sort of 32-bit keys is a radix sort: ten times faster than of 64-bit ones.
        by_feature = code.features.int().sort(stable=True).indices
        counts = torch.bincount(code.features, minlength=code.d_sae)
        return Pattern(code.rows(), code.features, code.row_offsets, by_feature, offsets_of(counts))

    def bags(self, widths: Sequence[int]) -> tuple[Int[Tensor, " n"], Int[Tensor, " b_times_g_plus_1"]]:
        """For each entry its (token, prefix group) as one number, and where each of these begins.

        Entries ascend by (token, feature) and groups are ranges of features, so they already ascend by this number.
        """
        inner = torch.tensor(widths[:-1], device=self.features.device, dtype=self.features.dtype)
        bags = self.rows * len(widths) + torch.bucketize(self.features, inner, right=True)
        n_bags = (self.row_offsets.shape[0] - 1) * len(widths)
        return bags, offsets_of(torch.bincount(bags, minlength=n_bags))


def combine(
    matrix: Float[Tensor, "r d"], index: Int[Tensor, " n"], offsets: Int[Tensor, " s_plus_1"], scale: Float[Tensor, " n"]
) -> Float[Tensor, "s d"]:
    """For each segment the sum of scale · matrix[index] over its entries."""
    return embedding_bag(index, matrix, offsets, mode="sum", per_sample_weights=scale, include_last_offset=True)


def gathered_dot(
    left: Float[Tensor, "s d"], left_index: Int[Tensor, " n"], right: Float[Tensor, "r d"], index: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """left[left_index] · right[index], entry by entry, without gathering either."""
    # What embedding_bag calls the gradient of its weights is this product, in one fused operator.
    dot = torch.ops.aten._embedding_bag_per_sample_weights_backward
    result: Tensor = dot(left, right, index, left_index[:0], left_index, 0)
    return result


class _EncodeValues(torch.autograd.Function):
    """Attach gradients to selected values; also hand out extra rows of the encoder whose gradients join the same sum."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        centre: Tensor,
        values: Tensor,
        pattern: Pattern,
        extra: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, weight, centre, extra)
        ctx.pattern = pattern
        return values.clone(), weight[extra], bias[extra]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, grad_rows, grad_biases = grads
        x, weight, centre, extra = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        order, ends = pattern.by_feature, pattern.feature_offsets
        sorted_grad = grad[order]
        grad_bias = torch.segment_reduce(sorted_grad, "sum", offsets=ends, initial=0)
        grad_weight = combine(x - centre, pattern.rows[order], ends, sorted_grad)
        grad_centre = -(grad_bias @ weight)
        grad_weight.index_add_(0, extra, grad_rows)
        grad_bias.index_add_(0, extra, grad_biases)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = combine(weight, pattern.features, pattern.row_offsets, grad)
        return grad_x, grad_weight, grad_bias, grad_centre, None, None, None


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
        grad_weight = combine(grad, pattern.rows[order], pattern.feature_offsets, values[order])
        return grad_values, grad_weight, None


class _PrefixLosses(torch.autograd.Function):
    """Squared errors of nested prefixes. One buffer holds the residuals, then their weighted suffix sums."""

    @staticmethod
    def forward(
        ctx: Any,
        target: Tensor,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        pattern: Pattern,
        widths: tuple[int, ...],
        extra: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        bags, offsets = pattern.bags(widths)
        residuals = combine(weight, pattern.features, offsets, values).view(target.shape[0], len(widths), -1)
        previous = target - bias
        losses = [previous.square().sum()]
        for group in range(len(widths)):
            torch.sub(previous, residuals[:, group], out=residuals[:, group])
            previous = residuals[:, group]
            losses.append(torch.linalg.vector_norm(previous).square())
        ctx.save_for_backward(target, values, weight, bias, extra, residuals)
        ctx.pattern, ctx.bags = pattern, bags
        last = previous.clone()
        ctx.mark_non_differentiable(last)
        return torch.stack(losses) / target.shape[0], last, weight[extra]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_losses, _, grad_rows = grads
        target, values, weight, bias, extra, residuals = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        slopes = grad_losses * (-2 / target.shape[0])
        # In place: autograd's version check refuses a second backward instead of giving a wrong one.
        upstream = residuals
        upstream[:, -1].mul_(slopes[-1])
        for group in range(residuals.shape[1] - 2, -1, -1):
            torch.addcmul(upstream[:, group + 1], upstream[:, group], slopes[group + 1], out=upstream[:, group])
        grad_bias = upstream[:, 0].sum(0) + slopes[0] * (target - bias).sum(0)
        grad_target = None
        if ctx.needs_input_grad[0]:
            grad_target = -upstream[:, 0] - slopes[0] * (target - bias)
        flat, order = upstream.view(-1, target.shape[1]), pattern.by_feature
        grad_values = gathered_dot(flat, ctx.bags, weight, pattern.features)
        grad_weight = combine(flat, ctx.bags[order], pattern.feature_offsets, values[order])
        grad_weight.index_add_(0, extra, grad_rows)
        return grad_target, grad_values, grad_weight, grad_bias, None, None, None


def encode_values(
    x: Float[Tensor, "b d"],
    weight: Float[Tensor, "f d"],
    bias: Float[Tensor, " f"],
    centre: Float[Tensor, " d"],
    values: Float[Tensor, " n"],
    pattern: Pattern,
    extra: Int[Tensor, " m"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """The selected values of relu((x - centre) weightᵀ + bias) with their gradients, and the rows `extra` of weight, bias.

    The extra rows' gradients are added to the same buffers: a second pass over the weights is saved.
    """
    result: tuple[Tensor, Tensor, Tensor] = _EncodeValues.apply(x, weight, bias, centre, values, pattern, extra)
    return result


def sparse_decode(
    values: Float[Tensor, " n"], weight: Float[Tensor, "f d"], bias: Float[Tensor, " d"], pattern: Pattern
) -> Float[Tensor, "b d"]:
    """Reconstruction from a sparse code."""
    result: Tensor = _Decode.apply(values, weight, pattern)
    return result + bias


def prefix_losses(
    target: Float[Tensor, "b d"],
    values: Float[Tensor, " n"],
    weight: Float[Tensor, "f d"],
    bias: Float[Tensor, " d"],
    pattern: Pattern,
    widths: tuple[int, ...],
    extra: Int[Tensor, " m"],
) -> tuple[Float[Tensor, " g_plus_1"], Float[Tensor, "b d"], Float[Tensor, "m d"]]:
    """Squared error of the bias alone and of each prefix, the last residual (no gradient), and the rows `extra` of weight.

    Prefix decodes add up over disjoint groups of features, so all of them together cost one sparse decode.
    Units: squared error summed over d, mean over tokens.
    """
    result: tuple[Tensor, Tensor, Tensor] = _PrefixLosses.apply(target, values, weight, bias, pattern, widths, extra)
    return result
