"""How far two distributions are apart.

Axes: b rows, v outcomes.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def jensen_shannon(p: Float[Tensor, "*b v"], q: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
    """Jensen-Shannon divergence: the mean KL of either to their average; 0 where they agree, log 2 where nothing is
    shared.

    Units: nats.
    Source: Lin 1991, equation 3.8.
    """
    middle = (p + q) / 2
    # xlogy is zero where p is, which is what the limit is.
    either = torch.xlogy(p, p) + torch.xlogy(q, q) - 2 * torch.xlogy(middle, middle)
    return (either.sum(-1) / 2).clamp_min(0)
