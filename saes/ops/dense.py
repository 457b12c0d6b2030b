"""The plain twins of the sparse step: dense, a few lines each, differentiated by autograd.

They define what the fast path must equal, and they are the fast path where codes are not sparse.
Axes: b tokens, d width of the activations, f features, g prefixes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import Code
from saes.ops.crossover import crossover_share


def dense_pays(code: Code, d: int) -> bool:
    """Whether so much is active that products of whole matrices are faster than sums over entries, d wide."""
    share = crossover_share(code.values.device.type, d, code.d_sae)
    return code.values.shape[0] > share * code.n_rows * code.d_sae


def dense_encode(
    x: Float[Tensor, "b d"], weight: Float[Tensor, "f d"], bias: Float[Tensor, " f"]
) -> Float[Tensor, "b f"]:
    """Activations of all features for centred input."""
    return torch.relu(x @ weight.t() + bias)


def dense_select_per_token(acts: Float[Tensor, "b f"], k: int) -> Float[Tensor, "b f"]:
    """All but the k largest activations of each token set to zero."""
    order = acts.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return acts * torch.zeros_like(acts).scatter(1, order, 1.0)


def dense_select_per_batch(acts: Float[Tensor, "b f"], k: int) -> Float[Tensor, "b f"]:
    """All but the k·b largest activations of the batch set to zero."""
    order = acts.flatten().sort(descending=True, stable=True).indices[: k * acts.shape[0]]
    return acts * torch.zeros_like(acts).flatten().scatter(0, order, 1.0).view_as(acts)


def dense_prefix_losses(
    centred: Float[Tensor, "b d"], acts: Float[Tensor, "b f"], weight: Float[Tensor, "f d"], widths: Sequence[int]
) -> tuple[Float[Tensor, " g_plus_1"], Float[Tensor, "b d"]]:
    """Squared error of the bias alone and of each prefix, and the residual of the last, for targets minus the bias.

    Units: squared error summed over d, mean over tokens.
    """
    residuals = [centred - acts[:, :width] @ weight[:width] for width in (0, *widths)]
    return torch.stack([r.square().sum() / centred.shape[0] for r in residuals]), residuals[-1]
