"""Features that fire above a threshold of their own: how SAEs from elsewhere are read."""

from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from saes.base import SAE
from saes.config import SAEConfig
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above


@final
class JumpReLUSAE(SAE):
    """Keeps what exceeds each feature's own threshold, which training leaves as it is.

    Source: Rajamanoharan et al. 2024 (arXiv 2407.14435), equation 4.
    """

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.threshold = self.b_enc.new_zeros(config.d_sae, requires_grad=False)

    def select(self, pre: Preactivations) -> Selection:
        return self.select_at_inference(pre)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above_each(pre, self.threshold)


def select_above_each(pre: Preactivations, threshold: Float[Tensor, " f"]) -> Selection:
    """All positive pre-activations strictly above their feature's threshold."""
    code = select_above(pre, threshold.min()).code
    return Selection(code.keep(code.values > threshold[code.features]), 0)
