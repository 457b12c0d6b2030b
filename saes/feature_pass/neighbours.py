"""Decoder directions that point the same way.

Axes: f features, g features of a block, d width, m pairs.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def unit_rows(directions: Float[Tensor, "f d"]) -> Float[Tensor, "f d"]:
    """Directions of length one; a zero row stays zero."""
    rows = directions.detach().float().cpu()
    unit: Tensor = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-30)
    return unit


def nearest(
    directions: Float[Tensor, "f d"], first: int, last: int, k: int
) -> tuple[Int[np.ndarray, "g k"], Float[np.ndarray, "g k"]]:
    """The k other features of largest cosine for features first to last - 1; id -1 and 0 where there are fewer."""
    cosine = directions[first:last] @ directions.T
    cosine[torch.arange(last - first), torch.arange(first, last)] = -2.0
    best = cosine.topk(min(k, max(directions.shape[0] - 1, 0)), dim=1)
    ids = np.full((last - first, k), -1, dtype=np.int64)
    values = np.zeros((last - first, k), np.float32)
    ids[:, : best.indices.shape[1]], values[:, : best.indices.shape[1]] = best.indices.numpy(), best.values.numpy()
    return ids, values


def cosines(directions: Float[Tensor, "f d"], first: int, others: Int[np.ndarray, "g k"]) -> Float[np.ndarray, "g k"]:
    """Cosine of feature first + i with each of others[i]; 0 where the id is -1."""
    own = directions[first : first + others.shape[0]]
    theirs = directions[torch.from_numpy(np.maximum(others, 0))]
    found = torch.einsum("gd,gkd->gk", own, theirs).numpy()
    return np.where(others >= 0, found, 0.0).astype(np.float32)
