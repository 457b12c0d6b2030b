"""What SAEs with a sparsity penalty share: its weight, and the controller that steers it to a wanted L0."""

import math
from abc import ABC
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.loop import StepReport
from saes.base import SAE
from saes.config import SAEConfig

PROPORTION = 0.5
"""Power with which the weight answers at once to L0 over its target, before the slow part has caught up."""
QUICKNESS = 8.0
"""Largest change of log weight over a whole run, unless l0_rate is given: a short run has to find its weight sooner."""
SLOWEST, FASTEST = 1e-3, 0.05
"""Largest change of log weight per step, of a run however long and however short."""
STEEPNESS = 8.0
"""The weight changes at full rate where L0 is off by a factor of exp(1 / STEEPNESS) or more."""
WIDEST = 4.0
"""Largest gap that is told apart."""
SMOOTHING = 0.1
"""Rate of the running mean of log L0 that the controller looks at."""


class PenalisedSAE(SAE, ABC):
    """Squared error plus a penalty whose weight warms up and, under l0_control, follows the number of active features.

    The weight is exp(level + PROPORTION · gap) with gap = log(L0 / target): the level is the sum of past gaps times
    l0_rate, so that it settles where the gap is zero; the second part damps it.
    """

    l1: Tensor
    gap: Tensor

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        first = self.first_weight() if config.l1_coefficient is None else config.l1_coefficient
        self._bounds = first * math.exp(-QUICKNESS), first * math.exp(QUICKNESS)
        self.register_buffer("l1", self.W_enc.new_full((), first, requires_grad=False))
        self.register_buffer("gap", self.W_enc.new_zeros((), requires_grad=False))

    @property
    def feature_size(self) -> float:
        """What an active feature adds if the wanted number of orthogonal ones, all alike, make up a scaled output."""
        return math.sqrt(self.d_out / self.config.wanted_l0)

    def first_weight(self) -> float:
        """Where the controller starts: a third of what the penalty of features of that size settles near."""
        return 0.25 * self.feature_size

    @property
    def controlled(self) -> bool:
        return self.config.l0_controlled

    def penalty_weight(self, n_tokens: int) -> Float[Tensor, ""]:
        weight = self.l1 * torch.exp(PROPORTION * self.gap) if self.controlled else self.l1
        return weight * self._warmth(n_tokens)

    def _warmth(self, n_tokens: int) -> float:
        length = self.config.penalty_warmup_share * (self.token_budget or 0)
        return 1.0 if length <= 0 else min(1.0, (self.updates_so_far() + 1) * n_tokens / length)

    @torch.no_grad()
    def advance(self, report: StepReport) -> None:
        """Counters, and the penalty's weight moved towards the wanted L0."""
        super().advance(report)
        if self.controlled:
            ratio = float(report.terms["l0"]) / self.config.wanted_l0
            gap = max(-WIDEST, min(WIDEST, math.log(max(ratio, 1e-9))))
            self.gap.lerp_(torch.full_like(self.gap, gap), SMOOTHING)
            if self._warmth(report.n_tokens) >= 1.0:
                self.l1.mul_(torch.exp(self._rate(report.n_tokens) * (STEEPNESS * self.gap).clamp(-1, 1)))
                # Where L0 cannot follow, the weight shall not run away.
                self.l1.clamp_(*self._bounds)

    def _rate(self, n_tokens: int) -> float:
        if self.config.l0_rate is not None:
            return self.config.l0_rate
        n_steps = (self.token_budget or 0) / n_tokens
        return min(FASTEST, max(SLOWEST, QUICKNESS / n_steps)) if n_steps else SLOWEST
