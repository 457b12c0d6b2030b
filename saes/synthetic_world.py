"""Known features of any number, drawn sparsely: what fires, how strongly, and the activations that this makes.

Axes: b tokens, t true features, d width of the activations, n firings over all tokens, g groups.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import Code, offsets_of


@dataclass(frozen=True, slots=True)
class Tokens:
    """Drawn tokens: their activations, and which true features made them. Strengths are the code's values."""

    x: Float[Tensor, "b d"]
    truth: Code


@dataclass(frozen=True, slots=True)
class World:
    """True features and the law by which they fire.

    Shapes: directions (t, d), of norm 1; offset (d,); all others (t,).
    A root is its own parent. `probability` is conditional on the parent. Children of a parent are consecutive:
    `n_children` from `first_child` on. `group` numbers the group of a root, and is that of its root for a child.
    A root fires with its probability times `boost` on tokens where its group is switched on, which is a share
    `group_rate` of them, and so much less elsewhere that the probability holds over all.
    """

    directions: Float[Tensor, "t d"]
    offset: Float[Tensor, " d"]
    parent: Int[Tensor, " t"]
    first_child: Int[Tensor, " t"]
    n_children: Int[Tensor, " t"]
    probability: Float[Tensor, " t"]
    strength: Float[Tensor, " t"]
    group: Int[Tensor, " t"]
    boost: Float[Tensor, " t"]
    group_rate: float
    exclusive: bool
    token_spread: float
    noise: float

    @property
    def n_features(self) -> int:
        return self.parent.shape[0]

    @property
    def roots(self) -> Bool[Tensor, " t"]:
        """Which features have no parent."""
        roots: Tensor = self.parent == torch.arange(self.n_features)
        return roots

    def density(self) -> Float[Tensor, " t"]:
        """Share of tokens on which each feature fires."""
        density, ancestor, roots = self.probability.clone(), self.parent, self.roots
        child = ~roots
        while bool(child.any()):
            density = torch.where(child, density * self.probability[ancestor], density)
            child, ancestor = child & ~roots[ancestor], self.parent[ancestor]
        return density

    def energy(self) -> Float[Tensor, " t"]:
        """Mean square over tokens of what each feature adds."""
        square = self.strength.square() * torch.exp(torch.tensor(self.token_spread**2))
        return self.density() * square

    def descendants(self, feature: int) -> Int[Tensor, " m"]:
        """All features below one in its tree."""
        found, level = [torch.empty(0, dtype=torch.int64)], torch.tensor([feature])
        while level.numel():
            level = torch.cat([found[0], *map(self.children, level.tolist())])
            found.append(level)
        return torch.cat(found)

    def children(self, feature: int) -> Int[Tensor, " m"]:
        """The features right below one in its tree."""
        first = int(self.first_child[feature])
        return torch.arange(first, first + int(self.n_children[feature]))

    def companions(self, feature: int) -> Int[Tensor, " m"]:
        """What fires with a feature more or less often than by chance without being an ancestor of it.

        Its children, its siblings, and the roots and features on their own in its root's group.
        """
        roots = self.roots
        root = feature
        while not roots[root]:
            root = int(self.parent[root])
        group = (roots & (self.group == self.group[root])).nonzero()[:, 0]
        siblings = self.children(int(self.parent[feature])) if feature != root else group[:0]
        kin = torch.cat([self.children(feature), siblings, group])
        return kin[(kin != feature) & (kin != root)]

    def draw(self, n_tokens: int, generator: torch.Generator) -> Tokens:
        """So many tokens."""
        truth = self.sample(n_tokens, generator)
        return Tokens(self.activations(truth, generator), truth)

    def sample(self, n_tokens: int, generator: torch.Generator) -> Code:
        """Which features fire on each token and how strongly; the work grows with what fires, not with b·t."""
        rows, features = self._roots_firing(n_tokens, generator)
        all_rows, all_features = [rows], [features]
        while rows.numel():
            rows, features = self._children_firing(rows, features, generator)
            all_rows.append(rows)
            all_features.append(features)
        # Sorted by token, then by feature.
        cells = (torch.cat(all_rows) * self.n_features + torch.cat(all_features)).sort().values
        rows, features = cells // self.n_features, cells % self.n_features
        spread = torch.randn(features.shape[0], generator=generator) * self.token_spread - self.token_spread**2 / 2
        values = self.strength[features] * spread.exp()
        return Code(values, features, offsets_of(torch.bincount(rows, minlength=n_tokens)), self.n_features)

    def activations(self, truth: Code, generator: torch.Generator) -> Float[Tensor, "b d"]:
        """The sum of what fires, the constant offset and noise."""
        x = torch.nn.functional.embedding_bag(
            truth.features, self.directions, truth.row_offsets, mode="sum", per_sample_weights=truth.values,
            include_last_offset=True,
        )  # fmt: skip
        x += self.offset
        if self.noise:
            x += self.noise * torch.randn(x.shape, generator=generator)
        return x

    def _roots_firing(self, n_tokens: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tokens and features, each pair once.

        A cell fires with probability p if at least one point of a Poisson process of mass -log(1 - p) falls on it.
        Points are thrown at the mass that a cell has at most, then kept with the share that it really has.
        """
        ids = self.roots.nonzero()[:, 0]
        p, boost, group = self.probability[ids].double(), self.boost[ids].double(), self.group[ids]
        off = p * (1 - self.group_rate * boost) / (1 - self.group_rate)
        mass_on, mass_off = -torch.log1p(-p * boost), -torch.log1p(-off)
        total = mass_on.cumsum(0)
        n_points = int(torch.poisson(total[-1:] * n_tokens, generator=generator))
        place = torch.rand(n_points, generator=generator, dtype=torch.float64) * total[-1]
        column = torch.searchsorted(total, place, right=True).clamp_(max=ids.shape[0] - 1)
        row = torch.randint(n_tokens, (n_points,), generator=generator)
        n_groups = int(group.max()) + 1
        switched = torch.rand(n_tokens, n_groups, generator=generator) < self.group_rate
        kept = torch.rand(n_points, generator=generator) < (mass_off / mass_on)[column]
        kept |= switched.view(-1)[row * n_groups + group[column]]
        cells = (row[kept] * self.n_features + ids[column[kept]]).unique()
        return cells // self.n_features, cells % self.n_features

    def _children_firing(self, rows: Tensor, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which children fire, given what fires one level above."""
        fertile = self.n_children[features] > 0
        rows, features = rows[fertile], features[fertile]
        first, number = self.first_child[features], self.n_children[features]
        share = self.probability[first]
        if self.exclusive:
            # Siblings are equally likely: one number says which of them fires, if any.
            chosen = (torch.rand(rows.shape[0], generator=generator) / share).long()
            fires = chosen < number
            return rows[fires], (first + chosen)[fires]
        place = torch.arange(int(number.sum())) - torch.repeat_interleave(number.cumsum(0) - number, number)
        fires = torch.rand(place.shape[0], generator=generator) < torch.repeat_interleave(share, number)
        children = torch.repeat_interleave(first, number) + place
        return torch.repeat_interleave(rows, number)[fires], children[fires]
