"""From a config to known features: trees, how often each fires, groups, directions.

Axes: t true features, d width of the activations, r roots and features on their own.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ConfigError
from saes.synthetic_config import MOST_DENSE, SyntheticConfig
from saes.synthetic_world import World

_PUSH = 0.05
_CHUNK = 2048


def build_world(config: SyntheticConfig) -> World:
    """The features that a config describes, drawn by its seed.

    Raises: ConfigError if features would have to fire more often than they can to reach the L0.
    Source: power-law firing, hierarchy, correlation and superposition as in Chanin and Garriga-Alonso 2026
    (arXiv 2602.14687); correlation is by switched groups here, whose pairwise lift is exact, and not by a copula.
    """
    generator = torch.Generator().manual_seed(config.seed)
    parent, first_child, n_children = _forest(config)
    roots = (parent == torch.arange(config.n_features)).nonzero()[:, 0]
    probability = torch.full((config.n_features,), config.child_share / config.branching)
    probability[roots] = _root_probabilities(config, roots.shape[0], generator)
    group = torch.zeros(config.n_features, dtype=torch.int64)
    group[roots] = torch.randperm(roots.shape[0], generator=generator) // config.group_size
    for _ in range(config.depth):
        group = group[parent]
    boost = torch.ones(config.n_features)
    wanted = 1 + ((config.lift - 1) * (1 - config.group_rate) / config.group_rate) ** 0.5
    boost[roots] = (MOST_DENSE / probability[roots]).clamp(max=wanted if config.group_size > 1 else 1.0)
    strength = torch.exp(config.strength_spread * torch.randn(config.n_features, generator=generator))
    directions = spread_directions(config.n_features, config.width, config.orthogonal_steps, generator)
    offset = torch.nn.functional.normalize(torch.randn(config.width, generator=generator), dim=0) * config.offset
    return World(
        directions, offset, parent, first_child, n_children, probability, strength, group, boost,
        group_rate=config.group_rate, exclusive=config.exclusive, token_spread=config.token_spread, noise=config.noise,
    )  # fmt: skip


def spread_directions(n: int, width: int, n_steps: int, generator: torch.Generator) -> Float[Tensor, "t d"]:
    """Unit vectors: orthogonal if that many fit, else drawn at random and pushed apart.

    Each step moves every direction against the gradient of the sum of fourth powers of its cosines with the others,
    which weighs the closest ones most. The work of a step grows with t²·d.
    """
    drawn = torch.randn(n, width, generator=generator)
    if n <= width:
        orthogonal: Tensor = torch.linalg.qr(drawn.t().double()).Q
        return orthogonal.t().float().contiguous()
    unit = torch.nn.functional.normalize(drawn, dim=1)
    for _ in range(n_steps):
        push = torch.cat([_push(unit, rows) for rows in torch.arange(n).split(_CHUNK)])
        unit = torch.nn.functional.normalize(unit - _PUSH * push / push.norm(dim=1).mean(), dim=1)
    return unit


def _push(unit: Tensor, rows: Int[Tensor, " c"]) -> Tensor:
    cosine = unit[rows] @ unit.t()
    cosine[torch.arange(rows.shape[0]), rows] = 0
    push: Tensor = cosine.pow(3) @ unit
    return push


def _forest(config: SyntheticConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Parent, first child and number of children of each feature.

    Roots and features on their own come first, tree roots before all; then the levels, children of a parent together.
    """
    below = config.n_trees * (config.tree_size() - 1)
    n_roots = config.n_features - below
    parent, n_children = torch.arange(config.n_features), torch.zeros(config.n_features, dtype=torch.int64)
    first_child = torch.zeros(config.n_features, dtype=torch.int64)
    level, start = torch.arange(config.n_trees), n_roots
    for _ in range(config.depth if config.n_trees else 0):
        children = torch.arange(start, start + level.shape[0] * config.branching)
        parent[children] = level.repeat_interleave(config.branching)
        first_child[level], n_children[level] = children[:: config.branching], config.branching
        level, start = children, start + children.shape[0]
    return parent, first_child, n_children


def _root_probabilities(config: SyntheticConfig, n_roots: int, generator: torch.Generator) -> Float[Tensor, " r"]:
    """By power law, scaled to the wanted L0 with all children counted; tree roots are the first n_trees."""
    weight = torch.arange(1, n_roots + 1, dtype=torch.float64) ** -config.zipf_exponent
    if config.tree_ranks == "random":
        weight = weight[torch.randperm(n_roots, generator=generator)]
    fires_with = torch.ones(n_roots, dtype=torch.float64)
    fires_with[: config.n_trees] = sum(config.child_share**level for level in range(config.depth + 1))
    probability = weight * (config.l0 / float((weight * fires_with).sum()))
    if float(probability.max()) > MOST_DENSE:
        raise ConfigError(
            f"l0: got {config.l0:g}, for which a feature fires on {float(probability.max()):.2f} of the tokens; "
            f"expected at most {MOST_DENSE}; give a smaller l0 or zipf_exponent, or more features"
        )
    return probability.float()
