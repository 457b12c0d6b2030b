"""Decoder directions as points of a plane: directions that are alike stand together.

Axes: f features, n of them laid out, d width of the hook, k nearest neighbours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dashboards import tsne

NEIGHBOURS = 30
CHECKED_NEIGHBOURS = 10
CHUNK_ENTRIES = 1 << 23


@dataclass(frozen=True, slots=True)
class DecoderLayout:
    """A place for each feature, NaN for those left out, and how much of the neighbourhoods the places keep.

    kept: mean share of a direction's ten nearest by cosine that are among its ten nearest on the map; kept_by_pca: the
    same for the first two principal components; kept_by_chance: expected of places drawn at random.
    """

    x: Float[np.ndarray, " f"]
    y: Float[np.ndarray, " f"]
    kept: float
    kept_by_pca: float
    kept_by_chance: float


@torch.no_grad()
def decoder_layout(directions: Float[Tensor, "f d"], alive: Int[Tensor, " n"], *, seed: int = 0) -> DecoderLayout:
    """Lay out the directions of living features by t-SNE on cosine distance, from their principal components.

    The same directions and seed give the same map, whatever the number of threads.
    """
    with _one_thread():
        return _laid_out(directions, alive, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Threads change the order of sums, and a descent of hundreds of steps turns the last digit into another map.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _laid_out(directions: Float[Tensor, "f d"], alive: Int[Tensor, " n"], seed: int) -> DecoderLayout:
    rows = directions[alive].float()
    unit = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-12)
    cosine, near = nearest(unit, min(NEIGHBOURS, max(len(alive) - 1, 0)))
    plane = principal_plane(unit)
    places = tsne.place(plane, near, 2 - 2 * cosine, seed=seed) if near.shape[1] > 1 else plane
    found = torch.full((2, len(directions)), torch.nan, dtype=torch.float64)
    found[:, alive] = places.T.double()
    x, y = found.numpy()
    true = near[:, :CHECKED_NEIGHBOURS]
    chance = true.shape[1] / max(len(alive) - 1, 1)
    return DecoderLayout(x, y, neighbours_kept(true, places), neighbours_kept(true, plane), chance)


def nearest(points: Float[Tensor, "n d"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k largest dot products of each point with others, largest first, and with which."""
    values, ids = torch.zeros(len(points), k), torch.zeros(len(points), k, dtype=torch.int64)
    for first, last in _chunks(len(points)):
        likeness = points[first:last] @ points.T
        likeness[torch.arange(last - first), torch.arange(first, last)] = -torch.inf
        values[first:last], ids[first:last] = likeness.topk(k, dim=1)
    return values, ids


def neighbours_kept(true: Int[Tensor, "n k"], places: Float[Tensor, "n 2"]) -> float:
    """Mean share of each point's true neighbours that are among as many nearest places; NaN without neighbours."""
    if true.numel() == 0:
        return float("nan")
    kept = 0.0
    for first, last in _chunks(len(places)):
        distance = torch.cdist(places[first:last], places, compute_mode="donot_use_mm_for_euclid_dist")
        distance[torch.arange(last - first), torch.arange(first, last)] = torch.inf
        shown = distance.topk(true.shape[1], dim=1, largest=False).indices
        kept += float((true[first:last, :, None] == shown[:, None]).any(2).sum())
    return kept / true.numel()


def principal_plane(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """The first two principal components, each with its entry of largest size positive."""
    if len(points) == 0:
        return torch.zeros(0, 2)
    centred = (points - points.mean(0)).double()
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :2]
    plane = torch.nn.functional.pad(centred @ vectors, (0, 2 - vectors.shape[1]))
    signs = plane.gather(0, plane.abs().argmax(0, keepdim=True)).sign()
    return (plane * torch.where(signs == 0, 1.0, signs)).float()


def _chunks(n: int) -> list[tuple[int, int]]:
    rows = max(1, CHUNK_ENTRIES // max(n, 1))
    return [(first, min(first + rows, n)) for first in range(0, n, rows)]
