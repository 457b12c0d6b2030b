"""The candidates of a batch and their pre-activations, as entries of a code or as a matrix: one rule serves both.

Axes: b tokens, f features, n candidate entries.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import Code
from saes.ops.sparse import Pattern


@dataclass(frozen=True, slots=True)
class Activated:
    """What candidates became.

    `penalised` is what the penalty adds up, entry by entry; `gate` is what must reconstruct the target too, by a
    decoder that learns nothing from it. Where `may_be_silent`, a value can be zero: its feature did not fire.
    """

    values: Float[Tensor, "..."]
    penalised: Float[Tensor, "..."] | None = None
    gate: Float[Tensor, "..."] | None = None
    may_be_silent: bool = False

    def penalty_per_token(self, n_tokens: int) -> Float[Tensor, ""] | None:
        """The penalty before it is weighed, mean over tokens."""
        return None if self.penalised is None else self.penalised.sum() / n_tokens


@dataclass(frozen=True, slots=True)
class SparseEntries:
    """Candidates as entries: pre (n,)."""

    pre: Float[Tensor, " n"]
    pattern: Pattern
    code: Code

    def of_feature(self, vector: Float[Tensor, " f"]) -> Float[Tensor, " n"]:
        """Each entry's number of its feature."""
        apply: Any = _OfFeature.apply
        result: Tensor = apply(vector, self.pattern)
        return result

    def only(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Values of candidates alone: all entries are candidates."""
        return values


@dataclass(frozen=True, slots=True)
class DenseEntries:
    """Candidates as a matrix: pre (b, f), of which those count whose `candidates` entry is one."""

    pre: Float[Tensor, "b f"]
    candidates: Float[Tensor, "b f"]

    def of_feature(self, vector: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
        """Each column's number, to be broadcast."""
        return vector

    def only(self, values: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        """Zero where an entry is no candidate."""
        return values * self.candidates


Entries = SparseEntries | DenseEntries


class _OfFeature(torch.autograd.Function):
    """Gather by feature; the gradient is summed by sorted segments, so that the same inputs give the same bytes."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, pattern: Pattern) -> Tensor:
        ctx.pattern = pattern
        return vector[pattern.features]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        pattern: Pattern = ctx.pattern
        ordered = grads[0][pattern.by_feature]
        return torch.segment_reduce(ordered, "sum", offsets=pattern.feature_offsets, initial=0), None
