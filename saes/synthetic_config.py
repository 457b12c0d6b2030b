"""Which known features synthetic activations are made of."""

from typing import Literal

from pydantic import Field, model_validator

from interp.config import Config, Seed

MOST_DENSE = 0.9
"""No feature fires on a larger share of the tokens."""


class SyntheticConfig(Config):
    """True features: how many, how often, how strong, what fires with what, and in how many dimensions.

    A forest of `n_trees` trees stands beside features on their own. Roots and features on their own fire by a power
    law, in groups that go together; a child fires only where its parent does.
    """

    n_features: int = Field(1024, ge=1)
    """True features."""
    width: int = Field(128, ge=1)
    """Width of the activations; more features than that lie in superposition."""
    l0: float = Field(12.0, gt=0)
    """True features that fire per token, on average."""
    zipf_exponent: float = Field(0.5, ge=0)
    """How fast firing falls with rank: the feature of rank r fires in proportion to r to the minus this."""
    n_trees: int = Field(10, ge=0)
    """Trees of features; their roots are spread as `tree_ranks` says, all else are features on their own."""
    branching: int = Field(4, ge=1)
    """Children of each feature in a tree that is not at its lowest level."""
    depth: int = Field(3, ge=1)
    """Levels below the roots."""
    child_share: float = Field(0.9, gt=0, le=1)
    """Children that fire per firing of their parent, on average."""
    exclusive: bool = True
    """Whether at most one child of a parent fires at a time; else children fire independently, given their parent."""
    tree_ranks: Literal["first", "random"] = "first"
    """Where tree roots stand among the features that are no children: at the most frequent ranks, or anywhere."""
    group_size: int = Field(8, ge=1)
    """Roots and features on their own in each group that fires together, drawn by seed; 1: none do."""
    group_rate: float = Field(0.1, gt=0, lt=1)
    """Share of the tokens on which a group is switched on."""
    lift: float = Field(3.0, ge=1)
    """How many times more often than by chance two features of a group fire together; at most 1 / group_rate."""
    strength_spread: float = Field(0.2, ge=0)
    """Standard deviation over features of the log of their mean strength, whose median is 1."""
    token_spread: float = Field(0.2, ge=0)
    """Standard deviation over tokens of the log of a feature's strength."""
    noise: float = Field(0.02, ge=0)
    """Standard deviation of the Gaussian noise on each coordinate."""
    offset: float = Field(0.5, ge=0)
    """Norm of a constant vector that is added to every token."""
    orthogonal_steps: int = Field(50, ge=0)
    """Steps that push directions apart where there are more features than dimensions."""
    seed: Seed = 0
    """Seed of directions, ranks, groups and strengths; tokens are drawn by a seed of their own."""

    @model_validator(mode="after")
    def _fits_together(self) -> "SyntheticConfig":
        if self.n_trees * self.tree_size() > self.n_features:
            raise ValueError(
                f"n_trees: got {self.n_trees} trees of {self.tree_size()} features, more than n_features "
                f"{self.n_features}; give fewer trees, a smaller branching or a smaller depth"
            )
        if self.lift > 1 / self.group_rate:
            raise ValueError(
                f"lift: got {self.lift}; with group_rate {self.group_rate} at most {1 / self.group_rate:g}"
            )
        if self.exclusive is False and self.child_share > self.branching * MOST_DENSE:
            raise ValueError(f"child_share: got {self.child_share}; give at most {self.branching * MOST_DENSE:g}")
        return self

    def tree_size(self) -> int:
        """Features of one tree."""
        return sum(self.branching**level for level in range(self.depth + 1))
