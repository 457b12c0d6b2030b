"""Where training starts: b_dec in the middle of the data, random decoder rows, the encoder their transpose.

Axes: s sampled tokens, d width of the input, o width of the output.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import DataError, NonFiniteError
from saes.base import SAE
from saes.wiring import geometric_median as geometric_median


@torch.no_grad()
def initialise(
    sae: SAE,
    sample: Float[Tensor, "s d"],
    *,
    seed: int,
    normalise: bool = True,
    output: Float[Tensor, "s o"] | None = None,
) -> None:
    """Set all parameters from a seed and a sample of activations; a transcoder also needs the sample of its `output`.

    With `normalise`, input_scale makes the mean norm of the centred sample sqrt(d), so that one learning rate fits all
    hooks; it is folded away when the SAE is saved.
    Raises: NonFiniteError if the sample holds NaN or infinity; DataError if it is empty.
    """
    for points in (sample,) if output is None else (sample, output):
        _check(points)
    sample = sample.to(sae.W_enc)
    output = None if output is None else output.to(sae.W_enc)
    sae.wiring.start(sae, sample, output, normalise=normalise)
    generator = torch.Generator().manual_seed(seed)
    sae.wiring.tie(sae, generator, sample, output)
    sae.b_enc.zero_()
    sae.start(sae.centred(sample), seed)


def _check(points: Tensor) -> None:
    if points.shape[0] == 0:
        raise DataError("got no activations to start from; expected at least one token; check dataset and mask")
    if not bool(torch.isfinite(points).all()):
        raise NonFiniteError("activations hold NaN or infinity; expected finite numbers; check the model and its dtype")
