"""Gated SAEs: one path says which features fire, another how strongly."""

from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.code import Code
from interp.distributed import ALONE, Ranks
from saes.base import Weights
from saes.config import SAEConfig
from saes.entries import Activated, Entries
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above
from saes.penalised import PenalisedSAE


@final
class GatedSAE(PenalisedSAE):
    """A feature fires where its gate, W_enc (x - b_dec) + b_enc, is positive; it fires with
    relu(exp(r_mag) · W_enc (x - b_dec) + b_mag).

    The penalty counts the positive gates, which moreover must reconstruct the input by themselves, through a decoder
    that learns nothing from it.
    Source: Rajamanoharan et al. 2024 (arXiv 2404.16014), sections 3.2 and 3.3.
    """

    biases = ("b_mag",)
    sparse_parameters = ("W_enc", "W_dec", "b_enc", "b_mag", "r_mag")

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.r_mag = nn.Parameter(torch.zeros_like(self.b_enc))
        self.b_mag = nn.Parameter(torch.zeros_like(self.b_enc))

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        gate = super().encode(x)
        w, scale = self.weights(), self.wiring.value_scale(self)
        # The gate's value holds the product that both paths share.
        shared = gate.values - (w.bias / scale)[gate.features]
        values = torch.relu(self.r_mag.exp()[gate.features] * shared + (self.b_mag / scale)[gate.features])
        return replace(gate, values=values).active()

    def select(self, pre: Preactivations) -> Selection:
        return select_above(pre, pre.bias.new_zeros(()))

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above(pre, pre.bias.new_zeros(()))

    def activate(self, entries: Entries, weights: Weights) -> Activated:
        """Magnitudes of the open gates, and the gates themselves."""
        shared = entries.pre - entries.of_feature(weights.bias)
        values = torch.relu(entries.of_feature(self.r_mag.exp()) * shared + entries.of_feature(self.b_mag))
        norms = self.wiring.norms(weights.decoder)
        counted = entries.pre if norms is None else entries.pre * entries.of_feature(norms)
        return Activated(values, entries.only(counted), gate=entries.pre, may_be_silent=True)

    def restart(self, features: Int[Tensor, " m"], ranks: Ranks = ALONE) -> None:
        """As all SAEs do, both paths alike."""
        super().restart(features, ranks)
        self.r_mag[features] = 0
        self.b_mag[features] = 0
