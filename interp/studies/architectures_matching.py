"""The same number of active features for all: one number added to an SAE's threshold or thresholds.

Axes: n tokens, d width, f features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saes.base import SAE


@dataclass(frozen=True, slots=True)
class Matching:
    """What was done to reach an L0, and what came of it on the tokens that it was set on.

    Units: shift in activations of the SAE as it is saved (None: left as trained); L0 in features per token.
    """

    shift: float | None
    l0_before: float
    l0_after: float


@torch.no_grad()
def match_l0(sae: SAE, sample: Float[Tensor, "n d"], l0: float) -> Matching:
    """Shift all thresholds of `sae` by one number, in place, such that `l0` features are active per token of `sample`.

    The order of features by how far they exceed their threshold stays; a threshold below zero is the same as zero. If
    fewer than `l0` are positive at all, all thresholds become zero.
    """
    threshold, n_tokens = sae.threshold.detach().clone(), sample.shape[0]
    before = sae.encode(sample).l0()
    sae.threshold.zero_()
    code = sae.encode(sample)
    margins = code.values * sae.input_scale
    margins -= threshold if threshold.ndim == 0 else threshold[code.features]
    wanted, shift = round(l0 * n_tokens), -float(threshold.max())
    if margins.shape[0] > wanted:
        # Strictly above the first value that shall not count.
        shift = max(shift, float(margins.topk(wanted + 1, sorted=False).values.min()))
    sae.threshold.copy_((threshold + shift).clamp(min=0))
    return Matching(shift, before, sae.encode(sample).l0())


@torch.no_grad()
def left_alone(sae: SAE, sample: Float[Tensor, "n d"]) -> Matching:
    """Of an SAE whose L0 is its own: the same figures, nothing changed."""
    found = sae.encode(sample).l0()
    return Matching(None, found, found)
