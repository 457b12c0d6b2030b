"""Random features that fire as often and write as much as the chosen ones: what a choice of features must beat.

Axes: n tokens, d width, f features, m chosen features, r draws.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import FeatureDictionary
from interp.errors import ConfigError

NEAREST = 40
"""Of how many features that are most alike a match is drawn."""


@dataclass(frozen=True, slots=True)
class FeatureTraits:
    """How often features fire, and how long a vector they write when they do.

    Shapes: density, written (f,).
    """

    density: Float[Tensor, " f"]
    written: Float[Tensor, " f"]

    @staticmethod
    def of(dictionary: FeatureDictionary, x: Float[Tensor, "n d"]) -> "FeatureTraits":
        """Measured on activations; a feature that never fires there writes nothing."""
        with torch.no_grad():
            code = dictionary.encode(x).active()
            features = code.features.long()
            fired = torch.bincount(features, minlength=dictionary.d_sae)
            total = torch.zeros(dictionary.d_sae).index_add_(0, features, code.values.float())
            norms = dictionary.directions(torch.arange(dictionary.d_sae)).norm(dim=1)
        return FeatureTraits(fired / x.shape[0], total / fired.clamp_min(1) * norms)

    def alike(self, feature: int) -> Int[Tensor, " f"]:
        """Features that fire, the most alike first, without itself."""
        traits = torch.stack([self.density, self.written], dim=1).clamp_min(1e-9).log()
        lively = (self.density > 0).nonzero()[:, 0]
        spread = traits[lively].std(0).clamp_min(1e-9)
        distance = ((traits[lively] - traits[feature]) / spread).square().sum(1)
        order = lively[distance.argsort(stable=True)]
        return order[order != feature]


def matched_sets(traits: FeatureTraits, chosen: Int[Tensor, " m"], n_draws: int, *, seed: int) -> Int[Tensor, "r m"]:
    """For each draw, one feature alike to each chosen one; no set holds a feature twice, or a chosen one.

    Raises: ConfigError if too few features fire.
    """
    own = set(chosen.tolist())
    pools = [[f for f in traits.alike(c).tolist() if f not in own][:NEAREST] for c in chosen.tolist()]
    if any(len(pool) < len(own) for pool in pools):
        raise ConfigError(
            f"got {len(own)} chosen features of {int((traits.density > 0).sum())} that fire; choose fewer"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(n_draws):
        taken: list[int] = []
        for pool in pools:
            left = [f for f in pool if f not in taken]
            taken.append(left[int(torch.randint(len(left), (1,), generator=generator))])
        drawn.append(taken)
    return torch.tensor(drawn)
