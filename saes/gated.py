"""Gated SAEs: one path says which features fire, another how strongly. Read for inference."""

from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.code import Code
from saes.config import SAEConfig
from saes.inference_only import InferenceOnlySAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above


@final
class GatedSAE(InferenceOnlySAE):
    """A feature fires where its gate, W_enc (x - b_dec) + b_enc, is positive; it fires with
    relu(exp(r_mag) · W_enc (x - b_dec) + b_mag).

    Source: Rajamanoharan et al. 2024 (arXiv 2404.16014), section 3.2.
    """

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.r_mag = nn.Parameter(torch.zeros_like(self.b_enc))
        self.b_mag = nn.Parameter(torch.zeros_like(self.b_enc))

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        gate = super().encode(x)
        # The gate's value holds the product that both paths share.
        shared = gate.values - self.b_enc[gate.features]
        values = torch.relu(self.r_mag.exp()[gate.features] * shared + self.b_mag[gate.features])
        return replace(gate, values=values).active()

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above(pre, pre.bias.new_zeros(()))
