"""Precision@k and surprisal of predicted future tokens, with intervals over documents.

Axes: b examples, n distances, k predicted tokens, v vocabulary, c documents.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.effects import ratio_effect
from interp.lenses.continuations import Continuations
from interp.lenses.followers import N_BEST

AT = (1, 5, 10)
Between = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Hits:
    """Of each example and distance, whether the true token is among the k likeliest, and how surprising the first is.

    Shapes: within (b, n, len(AT)); surprisal (b, n), NaN where the arm predicts nothing.
    """

    within: Bool[Tensor, "b n a"]
    surprisal: Float[Tensor, "b n"]


def score(top: Int[Tensor, "b n k"], targets: Int[Tensor, "b n"], teacher_log_p: Float[Tensor, "b n v"]) -> Hits:
    """Hits of the predicted tokens, likeliest first; -1 predicts nothing.

    Units: surprisal in nats: -log p of the model itself for the predicted token, not of the true one.
    Source: Pal et al. 2023, section 4.1.
    """
    right = top == targets[..., None]
    within = torch.stack([right[..., :k].any(-1) for k in AT], dim=-1)
    first = top[..., :1]
    found = -teacher_log_p.gather(-1, first.clamp(min=0))[..., 0].double()
    return Hits(within, torch.where(first[..., 0] < 0, torch.nan, found))


def likeliest(logits: Float[Tensor, "b n v"]) -> Int[Tensor, "b n k"]:
    """The ten likeliest tokens, or all of a smaller vocabulary."""
    return logits.topk(min(N_BEST, logits.shape[-1]), dim=-1).indices


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over examples and its 95% interval over documents (None: one document)."""

    value: float
    interval: Between | None = None


def mean_over_documents(values: Float[ndarray, " b"], documents: Int[ndarray, " b"], *, seed: int = 0) -> Figure:
    """Mean of what is defined; whole documents are drawn again for the interval."""
    held = np.isfinite(values)
    if not held.any():
        return Figure(float("nan"))
    member = np.unique(documents[held], return_inverse=True)[1]
    totals = np.bincount(member, weights=values[held].astype(np.float64))
    counts = np.bincount(member).astype(np.float64)
    found = ratio_effect(totals, counts, np.arange(len(counts)), seed=seed)
    if found.interval is None:
        return Figure(float(found.value))
    return Figure(float(found.value), (float(found.interval[0]), float(found.interval[1])))


def figures_at(hits: Hits, examples: Continuations, n: int, *, seed: int = 0) -> tuple[tuple[Figure, ...], Figure, int]:
    """Precision at each k, surprisal, and the number of examples that they are over, at one distance."""
    usable = examples.usable[:, n].cpu()
    documents = examples.document.cpu()[usable].numpy()
    within = hits.within[:, n].cpu()[usable].double().numpy()
    surprisal = hits.surprisal[:, n].cpu()[usable].numpy()
    precision = tuple(mean_over_documents(within[:, a], documents, seed=seed) for a in range(len(AT)))
    return precision, mean_over_documents(surprisal, documents, seed=seed), len(documents)
