"""The standard SAE: ReLU features, squared error and an L1 penalty."""

from typing import Any, final

import torch
from torch import Tensor

from interp.code import ActivationBatch, Code
from interp.loop import StepReport
from saes.base import SAE
from saes.config import SAEConfig
from saes.ops.dense import dense_encode, dense_prefix_losses
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above


@final
class StandardSAE(SAE):
    """Every positive activation counts; each is penalised in proportion to its decoder row's norm.

    With `l0_target` the penalty's weight grows while more features are active than wanted and shrinks while fewer are.
    Source: Bricken et al. 2023; the norm-weighted penalty is from Conerly et al. 2024 (circuits updates, April).
    """

    l1: Tensor

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.register_buffer("l1", self.W_enc.new_full((), config.l1_coefficient, requires_grad=False))

    def select(self, pre: Preactivations) -> Selection:
        return select_above(pre, self.threshold)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above(pre, self.threshold)

    def losses(self, batch: ActivationBatch) -> StepReport:
        """Squared error summed over d plus the penalty, mean over tokens. Dense, since early codes are."""
        centred, w = self.centred(batch.stacked(self.hooks_in)), self.weights()
        shifted = centred - (self.b_dec - self.b_dec.detach())
        acts = dense_encode(shifted, w.encoder, w.bias)
        errors, _ = dense_prefix_losses(shifted, acts, w.decoder, (self.d_sae,))
        # In `weights` the activations already carry the decoder norms.
        penalty = acts.sum() / centred.shape[0]
        loss = errors[-1] + self.l1 * penalty
        selection = Selection(Code.from_dense(acts.detach()), 0)
        terms = {"mse": errors[-1].detach(), "penalty": penalty.detach(), "l1": self.l1.clone()}
        return self.report(loss, terms, selection=selection, centred=centred)

    @torch.no_grad()
    def advance(self, report: StepReport) -> None:
        """Counters, and the penalty's weight moved towards the target L0."""
        super().advance(report)
        if self.config.l0_target is not None:
            excess = (report.terms["l0"] / self.config.l0_target - 1).clamp(-1, 1)
            self.l1.mul_(torch.exp(self.config.l0_rate * excess).to(self.l1))
