"""Where training starts: b_dec in the middle of the data, random decoder rows, the encoder their transpose.

Axes: s sampled tokens, d width of the activations.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import DataError, NonFiniteError
from saes.base import SAE


@torch.no_grad()
def initialise(sae: SAE, sample: Float[Tensor, "s d"], *, seed: int, normalise: bool = True) -> None:
    """Set all parameters from a seed and a sample of activations.

    With `normalise`, input_scale makes the mean norm of the centred sample sqrt(d), so that one learning rate fits all
    hooks; it is folded away when the SAE is saved.
    Raises: NonFiniteError if the sample holds NaN or infinity; DataError if it is empty.
    """
    if sample.shape[0] == 0:
        raise DataError("got no activations to start from; expected at least one token; check dataset and mask")
    if not bool(torch.isfinite(sample).all()):
        raise NonFiniteError("activations hold NaN or infinity; expected finite numbers; check the model and its dtype")
    sample = sample.to(sae.W_enc)
    centre = geometric_median(sample)
    spread = float(torch.linalg.vector_norm(sample - centre, dim=1).mean())
    scale = math.sqrt(sae.d_in) / spread if normalise and spread > 0 else 1.0
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sae.d_sae, sae.d_in, generator=generator, dtype=torch.float64)
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    sae.input_scale.fill_(scale)
    sae.b_dec.copy_(centre * scale)
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows * sae.config.encoder_scale)
    sae.b_enc.zero_()


def geometric_median(points: Float[Tensor, "s d"], *, n_iterations: int = 100) -> Float[Tensor, " d"]:
    """The point with the least sum of distances to all points, by Weiszfeld's iteration.

    Source: Weiszfeld 1937; as b_dec: Bricken et al. 2023.
    """
    centre = points.mean(0)
    for _ in range(n_iterations):
        distance = torch.linalg.vector_norm(points - centre, dim=1).clamp(min=1e-12)
        moved = (points / distance[:, None]).sum(0) / (1 / distance).sum()
        step = torch.linalg.vector_norm(moved - centre)
        centre = moved
        if float(step) <= 1e-6 * float(distance.mean()):
            break
    return centre
