"""Points of many dimensions on a plane, neighbours together: t-SNE with exact attraction along a neighbour graph.

Axes: n points, k neighbours, e edges, m repelling points.
Source: van der Maaten and Hinton 2008; step sizes and exaggeration of Belkina et al. 2019.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PERPLEXITY = 10.0
EXAGGERATION, EXAGGERATED_STEPS = 12.0, 80
STEPS = 320
LEAST_GAIN = 0.01
PAIRS_PER_STEP = 1 << 24
"""Pairs whose repulsion a step computes; more points than its root repel a random part of themselves."""
CHUNK_ROWS = 512


@dataclass(frozen=True, slots=True)
class _Graph:
    """Symmetric affinities that sum to one, as edges."""

    tail: Int[Tensor, " e"]
    head: Int[Tensor, " e"]
    weight: Float[Tensor, " e"]


def place(
    start: Float[Tensor, "n 2"], near: Int[Tensor, "n k"], distance: Float[Tensor, "n k"], *, seed: int = 0
) -> Float[Tensor, "n 2"]:
    """Places of the points, from where they start; `distance` is squared, to the k nearest of each."""
    graph = _affinities(near, distance)
    drawing = torch.Generator().manual_seed(seed)
    y = start / start.std(0).max().clamp(min=1e-12) * 1e-4
    velocity, gains = torch.zeros_like(y), torch.ones_like(y)
    n = y.shape[0]
    for step in range(STEPS):
        early = step < EXAGGERATED_STEPS
        pull = _attraction(y, graph) * (EXAGGERATION if early else 1.0)
        gradient = pull - _repulsion(y, drawing)
        agree = gradient.sign() == velocity.sign()
        gains = torch.where(agree, gains * 0.8, gains + 0.2).clamp(min=LEAST_GAIN)
        rate = max(n / (EXAGGERATION if early else 1.0) / 4, 50.0)
        velocity = (0.5 if early else 0.8) * velocity - rate * gains * gradient
        y = y + velocity
        y = y - y.mean(0)
    return y


def _affinities(near: Int[Tensor, "n k"], distance: Float[Tensor, "n k"]) -> _Graph:
    n, k = near.shape
    share = _perplexed(distance, min(PERPLEXITY, k / 2)) / (2 * n)
    tail = torch.arange(n).repeat_interleave(k)
    one = share.flatten()
    return _Graph(torch.cat([tail, near.flatten()]), torch.cat([near.flatten(), tail]), torch.cat([one, one]))


def _perplexed(distance: Float[Tensor, "n k"], perplexity: float) -> Float[Tensor, "n k"]:
    """Gaussian weights of each point's neighbours, as wide as gives them this perplexity; rows sum to one."""
    shifted = distance - distance.min(1, keepdim=True).values
    low, high = torch.full((len(distance), 1), -20.0), torch.full((len(distance), 1), 20.0)
    wanted = torch.tensor(perplexity).log()
    for _ in range(40):
        middle = (low + high) / 2
        weights = (-shifted * middle.exp()).softmax(1)
        entropy = -(weights * weights.clamp(min=1e-30).log()).sum(1, keepdim=True)
        wide = entropy > wanted
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    found: Tensor = (-shifted * ((low + high) / 2).exp()).softmax(1)
    return found


def _attraction(y: Float[Tensor, "n 2"], graph: _Graph) -> Float[Tensor, "n 2"]:
    along = y[graph.tail] - y[graph.head]
    force = (graph.weight / (1 + along.square().sum(1)))[:, None] * along
    return torch.zeros_like(y).index_add_(0, graph.tail, force)


def _repulsion(y: Float[Tensor, "n 2"], drawing: torch.Generator) -> Float[Tensor, "n 2"]:
    """From all points, or from as many drawn at random as the budget of pairs allows."""
    n = y.shape[0]
    m = max(1, min(n, PAIRS_PER_STEP // n))
    others = y if m == n else y[torch.randperm(n, generator=drawing)[:m]]
    charges = torch.cat([torch.ones(m, 1), others], dim=1)
    square = others.square().sum(1)
    forces, total = torch.empty_like(y), 0.0
    for first in range(0, n, CHUNK_ROWS):
        rows = y[first : first + CHUNK_ROWS]
        distance = torch.addmm(1 + square[None], rows, others.T, alpha=-2).add_(rows.square().sum(1, keepdim=True))
        kernel = distance.clamp_(min=1.0).reciprocal_()
        total += float(kernel.sum())
        field = kernel.square_() @ charges
        forces[first : first + CHUNK_ROWS] = rows * field[:, :1] - field[:, 1:]
    return forces / max(total - m, 1e-12)
