"""Codes that no activation chooses, and putting them where activations are.

Axes: n tokens, g groups, c codes, e width of a group.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.codebooks.quantise import Quantiser


def dead_codes(quantiser: Quantiser) -> Bool[Tensor, "g c"]:
    """Codes without a hit since `hits` was last set to zero."""
    return quantiser.hits == 0


@torch.no_grad()
def replace_dead(
    quantiser: Quantiser, normed: Float[Tensor, "n g e"], optimiser: torch.optim.Optimizer | None = None
) -> int:
    """Put every dead code at the activation of a token drawn from `normed`, forget its momentum, and count anew.

    Draws come from torch's random state, which checkpoints hold. Gives the number of codes replaced.
    """
    dead = dead_codes(quantiser)
    for group in range(quantiser.n_groups):
        places = dead[group].nonzero()[:, 0]
        drawn = torch.randint(normed.shape[0], (len(places),)).to(normed.device)
        # k codes are added up: each starts as its share of what it stands for.
        quantiser.codes[group, places] = normed[drawn, group] / (quantiser.scale * quantiser.k)
    state = optimiser.state.get(quantiser.codes, {}) if optimiser is not None else {}
    # What AdamW and MuonAdam call their running means.
    for moment in ("exp_avg", "exp_avg_sq", "mean", "square"):
        if moment in state:
            state[moment][dead] = 0
    quantiser.hits.zero_()
    return int(dead.sum())
