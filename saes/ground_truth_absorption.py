"""Absorption with the truth known: a parent's latent stays silent and a descendant's latent does its work.

Axes: b tokens, t true features, f latents, d width of the activations, r tokens of one parent, c candidates.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from saes.matching import Pairs, cosines
from saes.synthetic_world import Tokens, World

LEAST_COSINE = 0.3
"""Cosine from which a decoder row counts as containing a true direction: both, and one more besides, fit into it."""
LEAST_SHARE = 0.4
"""Share of the parent's strength that others must supply. Source: Chanin et al. 2024 (arXiv 2409.14507), A/P."""


@dataclass(frozen=True, slots=True)
class _Parent:
    """A parent, its latent (-1: none), its descendants, and the latents that may stand in for it.

    Shapes: descendants (m,); candidates, supply (c,); contains (m, c).
    """

    feature: int
    latent: int
    descendants: Int[Tensor, " m"]
    candidates: Int[Tensor, " c"]
    supply: Float[Tensor, " c"]
    contains: Float[Tensor, "m c"]


class AbsorptionTally:
    """The share of a parent's tokens on which it was absorbed, as a mean over parents.

    A parent is absorbed on a token on which it fires if the latent paired with it is silent (or it has none) while
    active latents that contain the parent's direction and that of a descendant which fires too (cosine of at least
    LEAST_COSINE with both) supply at least LEAST_SHARE of the parent's strength, measured along its direction. A
    second latent for the parent alone is no absorption, and a parent that is merely missed is none either.
    Only parents among the `scored` features count, and of these such as fire at all.
    Source: the idea is of Chanin et al. 2024 (arXiv 2409.14507), who find parent and latents by probing; this form for
    known features is our own.
    """

    def __init__(
        self, world: World, decoder: Float[Tensor, "f d"], pairs: Pairs, scored: Int[Tensor, " m"] | None = None
    ) -> None:
        parents = torch.arange(world.n_features) if scored is None else scored
        parents = parents[world.n_children[parents] > 0]
        latent = torch.full((world.n_features,), -1, dtype=torch.int64)
        latent[pairs.feature] = pairs.latent
        cosine = cosines(world.directions, decoder)
        self._parents = [_parent(world, decoder, cosine, p, int(latent[p])) for p in parents.tolist()]
        self._absorbed = torch.zeros(len(self._parents), dtype=torch.int64)
        self._fired = torch.zeros(len(self._parents), dtype=torch.int64)

    def add(self, tokens: Tokens, code: Code) -> None:
        """Count a batch."""
        acts, truth = code.dense(), tokens.truth.dense()
        for index, parent in enumerate(self._parents):
            fires = truth[:, parent.feature] > 0
            self._fired[index] += fires.sum()
            silent = fires if parent.latent < 0 else fires & (acts[:, parent.latent] <= 0)
            if parent.candidates.numel() and bool(silent.any()):
                self._absorbed[index] += _supplied(parent, acts[silent], truth[silent]).sum()

    def rate(self) -> float | None:
        """Mean over parents; None without any that fired."""
        fired = self._fired > 0
        return float((self._absorbed[fired] / self._fired[fired]).double().mean()) if bool(fired.any()) else None


def _parent(world: World, decoder: Tensor, cosine: Tensor, feature: int, latent: int) -> _Parent:
    descendants = world.descendants(feature)
    contains = cosine[descendants] >= LEAST_COSINE
    able = (cosine[feature] >= LEAST_COSINE) & contains.any(0)
    if latent >= 0:
        able[latent] = False
    candidates = able.nonzero()[:, 0]
    supply = decoder[candidates] @ world.directions[feature]
    return _Parent(feature, latent, descendants, candidates, supply, contains[:, candidates].float())


def _supplied(parent: _Parent, acts: Float[Tensor, "r f"], truth: Float[Tensor, "r t"]) -> Tensor:
    stands_in = (truth[:, parent.descendants] > 0).float() @ parent.contains > 0
    supplied = (acts[:, parent.candidates] * parent.supply * stands_in).sum(1)
    return supplied >= LEAST_SHARE * truth[:, parent.feature]
