"""Transcoders: features of one hook that say what stands at another. Read for inference.

Axes: b tokens, d width of the input, o width of the output, f features.
"""

import copy
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.code import Code
from saes.anchored_code import AnchoredCode, anchored
from saes.config import SAEConfig
from saes.inference_only import InferenceOnlySAE
from saes.jumprelu import select_above_each
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_per_token
from saes.ops.sparse import Pattern, sparse_decode


@final
class Transcoder(InferenceOnlySAE):
    """y ≈ W_decᵀ a + b_dec (+ W_skip x) with a = activation(W_enc x + b_enc); b_dec is not taken off the input.

    The activation is a JumpReLU with a threshold per feature (zero: a ReLU), or TopK where the config says so. Weights
    are [f, d] and [f, o]; W_skip is [o, d].
    Source: Dunefsky et al. 2024 (arXiv 2406.11944); skip transcoders: Paulo et al. 2025 (arXiv 2501.18823).
    """

    W_skip: nn.Parameter | None

    def __init__(self, config: SAEConfig, d_in: int, d_out: int, *, skip: bool = False, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.d_out = d_out
        self.W_dec = nn.Parameter(self.W_enc.new_zeros(config.d_sae, d_out))
        self.b_dec = nn.Parameter(self.W_enc.new_zeros(d_out))
        self.W_skip = nn.Parameter(self.W_enc.new_zeros(d_out, d_in)) if skip else None
        self.threshold = self.b_enc.new_zeros(config.d_sae, requires_grad=False)

    def centred(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The input as it is.

        Raises: ShapeError if x has another width than the encoder.
        """
        self.check_input(x)
        return x.to(self.W_enc)

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        x = self.centred(x)
        with torch.no_grad():
            code = self.select_at_inference(Preactivations(x, self.W_enc, self.b_enc)).code
        values = code.values
        if torch.is_grad_enabled():
            values = (x @ self.W_enc.t() + self.b_enc)[code.rows(), code.features]
        if self.W_skip is None:
            return Code(values, code.features, code.row_offsets, self.d_sae)
        one = torch.ones_like(x[:, :1])
        return AnchoredCode(values, code.features, code.row_offsets, self.d_sae, one, x @ self.W_skip.t())

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b o"]:
        part = code if prefix is None else code.keep(code.features < prefix)
        decoded = sparse_decode(part.values, self.W_dec, self.b_dec, Pattern.of(part))
        return decoded if self.W_skip is None else anchored(decoded, code)

    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m o"]:
        """Decoder rows: what a unit of each feature adds to the output."""
        return self.W_dec[features]

    def reading(self, hook: str, *, gain: Float[Tensor, " d"]) -> "Transcoder":
        """The same function of what stands at another hook, which is `gain` times what this one reads."""
        other = copy.deepcopy(self)
        other._hooks_in = (hook,)
        with torch.no_grad():
            other.W_enc.div_(gain)
            if other.W_skip is not None:
                other.W_skip.div_(gain)
        return other

    def select_at_inference(self, pre: Preactivations) -> Selection:
        if self.config.architecture == "topk":
            return select_per_token(pre, self.config.k)
        return select_above_each(pre, self.threshold)
