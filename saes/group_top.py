"""The largest members of every group at once, without a loop over groups."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def top_of_groups(
    group: Int[Tensor, " n"], value: Float[Tensor, " n"] | Int[Tensor, " n"], k: int
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Indices of the k largest entries of each group, and their rank within it.

    Ordered by (group ascending, value descending, first occurrence), which is also how ties are broken.
    """
    by_value = value.sort(descending=True, stable=True).indices
    order = by_value[group[by_value].sort(stable=True).indices]
    rank = rank_in_runs(group[order])
    chosen = rank < k
    return order[chosen], rank[chosen]


def rank_in_runs(sorted_group: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Place of each entry within its run of equal values, from 0."""
    place = torch.arange(sorted_group.shape[0], device=sorted_group.device)
    begins = torch.ones_like(sorted_group, dtype=torch.bool)
    begins[1:] = sorted_group[1:] != sorted_group[:-1]
    return place - torch.where(begins, place, 0).cummax(0).values if place.numel() else place
