"""JumpReLU: features that fire above a threshold of their own, which is learned through a narrow window.

Axes: b tokens, f features, n candidate entries.
"""

import math
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.distributed import ALONE, Ranks
from interp.loop import StepReport
from saes.base import Weights
from saes.config import SAEConfig
from saes.entries import Activated, Entries
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above_each
from saes.penalised import PenalisedSAE
from saes.resampling import mean_over

START_SHARE = 0.2
"""Thresholds at the start, as a share of the size that active features have on average."""


@final
class JumpReLUSAE(PenalisedSAE):
    """Keeps what exceeds each feature's own threshold; penalises how many features are active, or their tanh.

    Both are steps in the threshold, which gets the gradient of steps smoothed by a window of `bandwidth`. Candidates
    while training are therefore also the entries that the window reaches below the threshold.
    Source: Rajamanoharan et al. 2024 (arXiv 2407.14435), equations 4, 9, 11 and 12; the tanh penalty is from Conerly
    et al. 2025 (circuits updates, January), whose thresholds have no window: here they do.
    """

    sparse_parameters = ("W_enc", "W_dec", "b_enc", "threshold")

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        del self.threshold
        self.threshold = nn.Parameter(self.b_enc.new_zeros(config.d_sae))

    def select(self, pre: Preactivations) -> Selection:
        reach = self.config.bandwidth / 2 if self.config.architecture == "jumprelu" else 0.0
        return select_above_each(pre, self.threshold - reach, k=math.ceil(self.config.wanted_l0))

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above_each(pre, self.threshold, k=math.ceil(self.config.wanted_l0))

    def activate(self, entries: Entries, weights: Weights) -> Activated:
        """The jump, and what the penalty counts."""
        threshold, width = entries.of_feature(self.threshold), self.config.bandwidth
        values = jump(entries.pre, threshold, width)
        norms = self.wiring.norms(weights.decoder)
        if self.config.l0_penalty == "tanh":
            counted = torch.tanh(self.config.l0_tanh_scale * values)
        else:
            counted = step(entries.pre, threshold, width)
        if norms is not None:
            counted = counted * entries.of_feature(norms)
        return Activated(values, penalised=entries.only(counted), may_be_silent=True)

    @torch.no_grad()
    def settle(self, report: StepReport) -> None:
        """As all SAEs do; a threshold below zero would be the same as zero and is set to it."""
        self.threshold.clamp_(min=0)
        super().settle(report)

    def first_weight(self) -> float:
        """A step costs what a feature of a fifth of the usual size explains."""
        return 0.05 * self.feature_size**2

    @torch.no_grad()
    def start(self, centred: Float[Tensor, "s d"], seed: int = 0) -> None:
        """Thresholds at the start."""
        del centred, seed
        given = self.config.threshold_start
        self.threshold.fill_(START_SHARE * self.feature_size if given is None else given)

    def restart(self, features: Int[Tensor, " m"], ranks: Ranks = ALONE) -> None:
        """As all SAEs do, and the mean threshold of the others."""
        super().restart(features, ranks)
        new = torch.zeros_like(self.threshold)
        new[features] = 1
        others, old = mean_over(self.threshold, 1 - new, ranks), mean_over(self.threshold, new, ranks)
        mean = old if others is None else others
        if mean is not None:
            self.threshold[features] = mean


def jump(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """pre where it exceeds the threshold, else zero; the threshold's gradient goes through the window."""
    apply: Any = _Jump.apply
    result: Tensor = apply(pre, threshold, bandwidth)
    return result


def step(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """One where pre exceeds the threshold, else zero; the threshold's gradient goes through the window."""
    apply: Any = _Step.apply
    result: Tensor = apply(pre, threshold, bandwidth)
    return result


def _window(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """The rectangle kernel over its bandwidth."""
    return ((pre - threshold).abs() < bandwidth / 2).to(pre.dtype) / bandwidth


def _like(gradient: Tensor, threshold: Tensor) -> Tensor:
    """Summed over the tokens along which the threshold was broadcast."""
    return gradient if gradient.ndim == threshold.ndim else gradient.sum(0)


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * ((pre > threshold) & (pre > 0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        through = grads[0] * ((pre > threshold) & (pre > 0))
        pull = -threshold * _window(pre, threshold, ctx.bandwidth) * grads[0]
        return through, _like(pull, threshold), None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return ((pre > threshold) & (pre > 0)).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        pull = -_window(pre, threshold, ctx.bandwidth) * grads[0]
        return None, _like(pull, threshold), None
