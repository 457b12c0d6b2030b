"""Hedging with the truth known: a latent's direction holds a part of what merely fires together with its feature.

Axes: t true features, f latents, d width of the activations.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saes.matching import Pairs, cosines
from saes.synthetic_world import World


def hedging(world: World, decoder: Float[Tensor, "f d"], pairs: Pairs) -> float | None:
    """Share of a latent's direction that lies along its feature's companions, mean over paired latents.

    For a latent paired with feature i: the sum of squared cosines with the companions of i (children, siblings, the
    group of its root; see World.companions), less the same sum for the true direction of i, so that what directions
    share by superposition does not count. A true dictionary scores exactly 0, a random one 0 on average, and a
    direction cos(a)·dᵢ + sin(a)·dₖ with a companion k scores sin²(a) where directions are orthogonal. Ancestors are
    left out: their part in a descendant's latent is absorption. None where no feature has companions.
    Source: Chanin et al. 2025 (arXiv 2505.11756) name and explain hedging, and measure it by what latents lose to new
    ones that an SAE is widened by; with the truth known it can be read off, in this form of our own.
    """
    toward, between = cosines(world.directions, decoder).square(), cosines(world.directions, world.directions).square()
    leaks = []
    for feature, latent in zip(pairs.feature.tolist(), pairs.latent.tolist(), strict=True):
        companions = world.companions(feature)
        if companions.numel():
            leaks.append((toward[companions, latent] - between[companions, feature]).sum())
    return float(torch.stack(leaks).mean()) if leaks else None
