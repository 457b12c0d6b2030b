"""A codebook as a FeatureDictionary: ablation, probing, lenses and benchmarks take its codes like SAE features.

Axes: b tokens, g groups, c codes of a group, k active codes, e width of a group, d = g·e, n entries, m features.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from interp.codebooks.quantise import Quantiser


class CodebookDictionary:
    """Feature g·c + j is code j of group g; an active one has value 1, and its direction is the code itself.

    It encodes the activations that the bottleneck is given, so look at the model through
    `Insertion(model, codebooks, without=(hook,))`: there, decode(encode(x)) is what the bottleneck makes of x.
    """

    def __init__(self, hook: str, quantiser: Quantiser) -> None:
        self.hook, self.quantiser = hook, quantiser

    @property
    def hooks_in(self) -> tuple[str, ...]:
        return (self.hook,)

    @property
    def hooks_out(self) -> tuple[str, ...]:
        return (self.hook,)

    @property
    def d_sae(self) -> int:
        return self.quantiser.n_groups * self.quantiser.n_codes

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        """The active codes of every token, ascending."""
        found = self.quantiser.nearest(self.quantiser.normalise(x))
        first = torch.arange(self.quantiser.n_groups, device=x.device)[:, None] * self.quantiser.n_codes
        features = (found + first).flatten(1).sort(1).values
        offsets = torch.arange(x.shape[0] + 1, device=x.device) * features.shape[1]
        return Code(torch.ones_like(features, dtype=x.dtype).flatten(), features.flatten(), offsets, self.d_sae)

    @torch.no_grad()
    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b d"]:
        """The sum (or mean) of the active codes, each times its value."""
        code = code if prefix is None else code.keep(code.features < prefix)
        codes = self.quantiser.codes.flatten(0, 1)
        parts = codes[code.features.long()] * (code.values * self.quantiser.scale).to(codes)[:, None]
        groups = code.features.long() // self.quantiser.n_codes
        out = codes.new_zeros(code.n_rows * self.quantiser.n_groups, codes.shape[1])
        out.index_add_(0, code.rows() * self.quantiser.n_groups + groups, parts)
        return out.view(code.n_rows, -1).to(code.values.dtype)

    @torch.no_grad()
    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """What each code adds to the hook when it is active: itself in its group's columns, zero elsewhere."""
        quantiser = self.quantiser
        codes = quantiser.codes.flatten(0, 1)[features.long()] * quantiser.scale
        out = codes.new_zeros(features.shape[0], quantiser.n_groups, quantiser.group_width)
        out[torch.arange(features.shape[0]), features.long() // quantiser.n_codes] = codes
        return out.flatten(1)
