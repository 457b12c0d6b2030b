"""Activations whose true features are known: a tree of features that fire by chance, each with its own direction.

Axes: b tokens, t true features, d width of the activations.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import ActivationBatch
from interp.errors import ConfigError

HOOK = "synthetic"
"""Name under which synthetic activations stand in a batch."""
_BLOCK_BATCHES = 256


@dataclass(frozen=True, slots=True)
class FeatureTree:
    """True features: a child can fire only where its parent fires, and children of one parent never fire together.

    Shapes: parent, probability (t,); directions (t, d). A root is its own parent. `probability` is conditional on the
    parent. An active feature adds its direction, so a direction's norm is the feature's strength.
    """

    parent: Int[Tensor, " t"]
    probability: Float[Tensor, " t"]
    directions: Float[Tensor, "t d"]

    @property
    def n_features(self) -> int:
        return self.parent.shape[0]

    @property
    def roots(self) -> Bool[Tensor, " t"]:
        """Which features have no parent."""
        roots: Tensor = self.parent == torch.arange(self.n_features)
        return roots

    @property
    def parents(self) -> Int[Tensor, " p"]:
        """Features that have children, ascending."""
        parents: Tensor = self.parent[~self.roots].unique()
        return parents

    def density(self) -> Float[Tensor, " t"]:
        """Share of tokens on which each feature fires."""
        density = self.probability.clone()
        ancestor = self.parent
        while not bool(self.roots[ancestor].all()):
            density *= torch.where(self.roots[ancestor], 1.0, self.probability[ancestor])
            ancestor = self.parent[ancestor]
        return density * torch.where(self.roots, 1.0, self.probability[ancestor])

    def sample(self, n_tokens: int, generator: torch.Generator) -> Bool[Tensor, "b t"]:
        """Which features fire on each token."""
        low, slot = self._intervals()
        drawn = torch.rand(n_tokens, self.n_features + 1, generator=generator)[:, slot]
        fires = (drawn >= low) & (drawn < low + self.probability)
        for _ in range(self.n_features):
            below = fires & fires[:, self.parent]
            if torch.equal(below, fires):
                break
            fires = below
        return fires

    def activations(self, fires: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """The sum of the directions of what fires."""
        return fires.to(self.directions.dtype) @ self.directions

    def _intervals(self) -> tuple[Float[Tensor, " t"], Int[Tensor, " t"]]:
        """Where in [0, 1) a feature's share begins, and which uniform number it looks at: siblings share one."""
        index = torch.arange(self.n_features)
        slot = torch.where(self.roots, index, self.parent + self.n_features)
        low = torch.stack([self.probability[:i][slot[:i] == slot[i]].sum() for i in range(self.n_features)])
        return low, slot.unique(return_inverse=True)[1]


def toy_tree(seed: int) -> FeatureTree:
    """Three parents with three children each, and eight features on their own, in 20 dimensions.

    Parents fire with p = .15; given a parent, each child with p = .2 and none with .4; the others with p = .05.
    Directions are orthogonal; their norms are drawn from a normal distribution, 1 ± .05. True L0: 1.12.
    Source: Bussmann et al. 2025 (arXiv 2503.17547), toy experiment.
    """
    roots, children = torch.arange(3), torch.arange(3).repeat_interleave(3)
    parent = torch.cat([roots, children, torch.arange(12, 20)])
    probability = torch.tensor([0.15] * 3 + [0.2] * 9 + [0.05] * 8)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64)).Q
    norms = 1 + 0.05 * torch.randn(20, 1, generator=generator, dtype=torch.float64)
    return FeatureTree(parent, probability, (rotation * norms).float())


class SyntheticActivations:
    """Endless batches from a tree. Seeded by block, so that any batch can be drawn again from its number."""

    def __init__(self, tree: FeatureTree, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size: got {batch_size}; expected at least 1 token per batch")
        self._tree, self._batch_size, self._seed = tree, batch_size, seed
        self._step, self._block_index = 0, -1
        self._block: tuple[Tensor, ...] = ()
        self._zeros = torch.zeros(batch_size, dtype=torch.int64)

    def __next__(self) -> ActivationBatch:
        block, place = divmod(self._step, _BLOCK_BATCHES)
        if block != self._block_index:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + block)
            fires = self._tree.sample(_BLOCK_BATCHES * self._batch_size, generator)
            self._block = self._tree.activations(fires).split(self._batch_size)
            self._block_index = block
        self._step += 1
        return ActivationBatch({HOOK: self._block[place]}, self._zeros, self._zeros, self._zeros)

    def cursor(self) -> dict[str, int]:
        return {"step": self._step}

    def seek(self, cursor: Mapping[str, int]) -> None:
        self._step = cursor["step"]
