"""Crosscoders: one code for several hooks (or models), which each reconstruct their own activations from it.

Axes: b tokens, s sampled tokens, d width of all hooks side by side, f features.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from saes.wiring import Wiring, centre_and_scale

if TYPE_CHECKING:
    from saes.base import SAE


class Crosscoding(Wiring):
    """Hooks side by side, each scaled by a number of its own; a decoder row has a part at each hook.

    A penalty counts a feature by the sum of the norms of its parts, so that a feature of one hook alone is cheaper than
    one of several; what keeps a given number of features compares the whole row's share, whose norm is one.
    Source: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing" (the penalty); the
    scale for each hook follows their normalisation.
    """

    def __init__(self, sae: "SAE", widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        # Of the same name as an autoencoder's one number: whatever scales the input scales by it.
        sae.input_scale = sae.b_dec.new_ones(sae.d_in, requires_grad=False)

    def value_scale(self, sae: "SAE") -> Float[Tensor, ""]:
        """One: there is no number that is the scale of all hooks."""
        return sae.b_dec.new_ones(())

    def norms(self, rows: Float[Tensor, "f d"]) -> Float[Tensor, " f"]:
        """Sum of the norms of a row's parts."""
        parts = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in rows.split(self.widths, dim=1)])
        return parts.sum(0)

    @torch.no_grad()
    def folded(self, sae: "SAE") -> "SAE":
        """A copy with unit decoder rows. The scales stay: no row could be of norm one before and after them."""
        return sae.with_unit_decoder()

    @torch.no_grad()
    def start(
        self, sae: "SAE", sample: Float[Tensor, "s d"], output: Float[Tensor, "s d"] | None, *, normalise: bool
    ) -> None:
        """Each hook's own scale and centre."""
        del output
        ends = torch.tensor(self.widths).cumsum(0).tolist()
        for width, end in zip(self.widths, ends, strict=True):
            columns = slice(end - width, end)
            centre, scale = centre_and_scale(sample[:, columns], normalise=normalise)
            sae.input_scale[columns] = scale
            sae.b_dec[columns] = centre * scale


def hook_shares(sae: "SAE") -> Float[Tensor, "f h"]:
    """Of each feature, which share of the norm of its decoder parts stands at each hook (in scaled units).

    For two models, near 0 or 1 is a feature of one model alone and 1/2 one that they share.
    Source: Lindsey et al. 2024, "relative norm".
    """
    wiring = sae.wiring
    widths = wiring.widths if isinstance(wiring, Crosscoding) else (sae.d_out,)
    parts = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in sae.W_dec.detach().split(widths, 1)], dim=1)
    return parts / parts.sum(1, keepdim=True).clamp(min=1e-12)
