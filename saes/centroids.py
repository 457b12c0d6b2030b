"""k-means as a dictionary: each token is its nearest centroid.

Axes: b tokens, c tokens of a chunk, d width of the activations, f features (centroids).
"""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import Code
from saes.config import SAEConfig
from saes.inference_only import InferenceOnlySAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection


@final
class NearestCentroid(InferenceOnlySAE):
    """One feature a token, with value one: the centroid that is nearest. L0 is 1.

    ‖x - c‖² is least where c·x - ‖c‖²/2 is largest, for c and x about b_dec: an encoder with a bias. So W_enc and W_dec
    both hold the centroids minus b_dec, and b_enc half their squared norms, negative.
    """

    def select_at_inference(self, pre: Preactivations) -> Selection:
        n_rows = pre.centred.shape[0]
        nearest = torch.empty(n_rows, dtype=torch.int64, device=pre.centred.device)
        for offset, chunk in pre:
            nearest[offset :: pre.n_chunks] = chunk.argmax(1)
        ones = torch.ones(n_rows, dtype=pre.centred.dtype, device=nearest.device)
        return Selection(Code(ones, nearest, torch.arange(n_rows + 1, device=nearest.device), self.d_sae), 0)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        """The nearest centroid of each token: a choice, which has no gradient.

        Raises: ShapeError if x has another width than the dictionary; NonFiniteError for NaN or infinity in x.
        """
        return self.select_at_inference(Preactivations(self.finite_centred(x), self.W_enc, self.b_enc)).code


@torch.no_grad()
def nearest_centroid(
    centroids: Float[Tensor, "f d"], mean: Float[Tensor, " d"], *, hooks: tuple[str, ...]
) -> NearestCentroid:
    """The dictionary of these centroids, told about `mean`."""
    f, d = centroids.shape
    where: dict[str, Any] = {"hooks_in": hooks, "device": centroids.device}
    sae = NearestCentroid(SAEConfig(architecture="topk", d_sae=f, k=1, n_prefixes=1), d, **where)
    rows = centroids.double() - mean.double()
    sae.W_enc.copy_(rows)
    sae.W_dec.copy_(rows)
    sae.b_enc.copy_(-rows.square().sum(1) / 2)
    sae.b_dec.copy_(mean)
    return sae.eval()
