"""Activations that are no numbers: told where they enter, since further on nothing would seem amiss.

Axes: n tokens, d width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import NonFiniteError


def check_finite(hook: str, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The same activations.

    Raises: NonFiniteError naming the hook and how many tokens have NaN or infinity.
    """
    # One reduction tells NaN and infinity from numbers without a mask of the tensor's size.
    if not bool(torch.isfinite(x.detach().sum(dtype=torch.float32))):
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        if bad:
            raise NonFiniteError(
                f"{hook}: {bad} of {x.shape[0]} tokens have NaN or infinite activations; "
                "load the model in float32 (--dtype float32) or check its weights"
            )
    return x
