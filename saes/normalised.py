"""SAEs of activations that are normalised token by token before they are encoded.

Axes: b tokens, d width of the activations.
"""

import math
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import Code
from saes.anchored_code import AnchoredCode, anchored
from saes.base import SAE
from saes.inference_only import InferenceOnlySAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection

Normalisation = Literal["layer_norm", "constant_norm", "centre"]
LAYER_NORM_EPSILON = 1e-5


@final
class NormalisedSAE(InferenceOnlySAE):
    """An SAE that normalises each token, and puts its reconstruction back where the token was. Inference only.

    layer_norm: (x - mean) / (standard deviation + ε). constant_norm: every token has norm √d. centre: x - mean, which
    is the residual stream of a LayerNorm model whose weights were centred. Feature values, thresholds and directions
    are in normalised units.
    """

    inner: SAE

    def __init__(self, inner: SAE, normalisation: Normalisation) -> None:
        super().__init__(
            inner.config, inner.d_in, hooks_in=inner.hooks_in, hooks_out=inner.hooks_out, device=torch.device("meta")
        )
        self.inner, self.normalisation = inner, normalisation
        # One set of weights under two names: whatever looks at an SAE's weights finds them.
        for name, _ in list(self.named_parameters(recurse=False)):
            self.register_parameter(name, inner.get_parameter(name))
        for name, _ in list(self.named_buffers(recurse=False)):
            # A threshold for each feature is a parameter.
            del self._buffers[name]
            setattr(self, name, getattr(inner, name)) if name in inner._parameters else self.register_buffer(
                name, inner.get_buffer(name)
            )

    def encode(self, x: Float[Tensor, "b d"]) -> AnchoredCode:
        x = x.to(self.W_enc)
        scale, offset = self._anchors(x)
        epsilon = LAYER_NORM_EPSILON if self.normalisation == "layer_norm" else 0.0
        code = self.inner.encode((x - offset) / (scale + epsilon))
        return AnchoredCode(code.values, code.features, code.row_offsets, code.d_sae, scale, offset)

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b d"]:
        return anchored(self.inner.decode(code, prefix=prefix), code)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return self.inner.select_at_inference(pre)

    def _anchors(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
        mean = x.mean(1, keepdim=True)
        if self.normalisation == "centre":
            return torch.ones_like(mean), mean
        if self.normalisation == "layer_norm":
            return x.std(1, keepdim=True), mean
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        # A token that is zero stays zero.
        return torch.where(norm > 0, norm / math.sqrt(x.shape[1]), torch.ones_like(norm)), torch.zeros_like(mean)
