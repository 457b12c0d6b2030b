"""What ranks that hold parts of one dictionary add up, with gradients.

Every rank holds the whole batch and the same loss; what comes back to its own part is exact, so that nothing but sums
of the forward pass has to be exchanged. Sums are the same bytes at every rank.
Axes: b tokens, o width of the output, f features of this rank, n active entries, g prefixes, m extra rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.distributed import Ranks
from saes.ops.merge import kept_of
from saes.ops.sparse import Pattern, combine, constants_like, errors_into_pulls, gathered_dot


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        del ctx
        return ranks.add(own.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        del ctx
        return grads[0], None


def summed(own: Float[Tensor, "..."], ranks: Ranks) -> Float[Tensor, "..."]:
    """The sum over ranks. What is computed of it is the same everywhere, so each part's gradient is the sum's."""
    apply: Any = _Summed.apply
    result: Tensor = apply(own, ranks)
    return result


def own_widths(widths: Sequence[int], first: int, n_rows: int) -> tuple[int, ...]:
    """Prefixes of the dictionary as prefixes of a rank's part of it, which begins at feature `first`."""
    return tuple(min(max(width - first, 0), n_rows) for width in widths)


class _GroupSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, pattern: Pattern, widths: tuple[int, ...], extra: Tensor
    ) -> tuple[Tensor, Tensor]:
        bags, offsets = pattern.bags(widths)
        ctx.save_for_backward(values, weight, bags, extra)
        ctx.pattern = pattern
        sums = combine(weight, pattern.features, offsets, values)
        return sums.view(-1, len(widths), weight.shape[1]), weight[extra]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, grad_rows = grads
        values, weight, bags, extra = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        flat, order = grad.reshape(-1, grad.shape[2]), pattern.by_feature
        grad_values = gathered_dot(flat, bags, weight, pattern.features)
        grad_weight = combine(flat, bags[order], pattern.feature_offsets, values[order], pattern.pieces)
        grad_weight.index_add_(0, extra, grad_rows)
        return grad_values, grad_weight, None, None, None


def group_sums(
    values: Float[Tensor, " n"],
    weight: Float[Tensor, "f o"],
    pattern: Pattern,
    widths: tuple[int, ...],
    extra: Int[Tensor, " m"],
) -> tuple[Float[Tensor, "b g o"], Float[Tensor, "m o"]]:
    """For each token what this rank's features of each prefix group add up to, and the rows `extra` of the decoder."""
    apply: Any = _GroupSums.apply
    result: tuple[Tensor, Tensor] = apply(values, weight, pattern, widths, extra)
    return result


def dense_group_sums(
    acts: Float[Tensor, "b f"], weight: Float[Tensor, "f o"], widths: Sequence[int]
) -> Float[Tensor, "b g o"]:
    """The same of a matrix of activations, where so much is active that whole products are faster."""
    edges = zip((0, *widths), widths, strict=False)
    return torch.stack([acts[:, low:high] @ weight[low:high] for low, high in edges], dim=1)


class _SummedErrors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, centred: Tensor, _centre: Tensor, own: Tensor, term_weights: tuple[float, ...], ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor]:
        sums = ranks.add(own.detach().contiguous())
        # Pulls are linear in the weights: these make them the gradient of the loss.
        slopes = [-2 * weight / centred.shape[0] for weight in term_weights]
        errors, residual, centre_pull = errors_into_pulls(centred, sums, slopes)
        ctx.save_for_backward(centred, sums, centre_pull)
        ctx.bias_slope = slopes[0]
        ctx.mark_non_differentiable(errors, residual)
        return (errors * constants_like(term_weights, errors)).sum(), errors, residual

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        centred, pulls, centre_pull = ctx.saved_tensors
        grad_centred = None
        if ctx.needs_input_grad[0]:
            # The same at every rank: what the target depends on they all hold.
            grad_centred = (pulls[:, 0] + ctx.bias_slope * centred) * -grads[0]
        return grad_centred, centre_pull * grads[0], pulls * grads[0], None, None


@dataclass(frozen=True, slots=True)
class SummedErrors:
    """Loss and errors of nested prefixes, the same at every rank. Only `loss` carries gradients.

    Shapes: errors (g + 1,), of the bias alone, then of each prefix; residual (b, o) of the last.
    Units: squared error summed over o, mean over tokens.
    """

    loss: Float[Tensor, ""]
    errors: Float[Tensor, " g_plus_1"]
    residual: Float[Tensor, "b o"]


def summed_errors(
    centred: Float[Tensor, "b o"],
    centre: Float[Tensor, " o"],
    own: Float[Tensor, "b g o"],
    term_weights: tuple[float, ...],
    ranks: Ranks,
) -> SummedErrors:
    """Errors of the prefixes whose group sums are those of all ranks together; `own` is overwritten.

    `centred` is the target minus the detached decoder bias `centre`, which gets its gradient here.
    """
    apply: Any = _SummedErrors.apply
    return SummedErrors(*apply(centred, centre, own, term_weights, ranks))


def summed_aux_loss(
    centred: Float[Tensor, "b d"],
    residual: Float[Tensor, "b o"],
    encoder_rows: Float[Tensor, "m d"],
    biases: Float[Tensor, " m"],
    decoder_rows: Float[Tensor, "m o"],
    *,
    k: int,
    n_dead: int,
    ranks: Ranks,
) -> Float[Tensor, ""]:
    """`saes.losses.aux_loss` with the dead features of all ranks, `n_dead` in number, of which m are this one's."""
    acts = torch.relu(torch.addmm(biases, centred, encoder_rows.t()))
    if k < n_dead:
        acts = acts * _strongest(acts.detach(), k, ranks)
    error = residual - summed(acts @ decoder_rows, ranks)
    return error.square().sum() / residual.shape[0] * min(n_dead / k, 1.0)


def _strongest(acts: Float[Tensor, "b m"], k: int, ranks: Ranks) -> Float[Tensor, "b m"]:
    """One where an activation is among the k largest of its token over all ranks."""
    top = acts.topk(min(k, acts.shape[1]), dim=1)
    padded = acts.new_zeros(acts.shape[0], k)
    padded[:, : top.values.shape[1]] = top.values
    kept = kept_of(padded, k, ranks)[:, : top.values.shape[1]]
    return torch.zeros_like(acts).scatter(1, top.indices, kept.to(acts.dtype))
