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


def means_over_documents(
    values: Float[ndarray, "m b"], documents: Int[ndarray, " b"], *, seed: int = 0
) -> tuple[Figure, ...]:
    """Mean of each row over what is defined in it; whole documents are drawn again for the intervals."""
    if np.isfinite(values).all() and values.size:
        return _bootstrapped(values, documents, seed)
    found = []
    for row in values:
        held = np.isfinite(row)
        found.append(_bootstrapped(row[None, held], documents[held], seed)[0] if held.any() else Figure(float("nan")))
    return tuple(found)


def _bootstrapped(values: Float[ndarray, "m b"], documents: Int[ndarray, " b"], seed: int) -> tuple[Figure, ...]:
    """Documents are added up first, so that drawing them again is cheap."""
    member = np.unique(documents, return_inverse=True)[1]
    totals = np.stack([np.bincount(member, weights=row) for row in values.astype(np.float64)])
    counts = np.bincount(member).astype(np.float64)
    found = ratio_effect(totals, counts, np.arange(len(counts)), seed=seed)
    if found.interval is None:
        return tuple(Figure(value) for value in found.value.tolist())
    low, high = found.interval.tolist()
    return tuple(map(Figure, found.value.tolist(), zip(low, high, strict=True)))


def figures_at(hits: Hits, examples: Continuations, n: int, *, seed: int = 0) -> tuple[tuple[Figure, ...], Figure, int]:
    """Precision at each k, surprisal, and the number of examples that they are over, at one distance."""
    usable = examples.usable[:, n].cpu()
    documents = examples.document.cpu()[usable].numpy()
    within = hits.within[:, n].cpu()[usable].double().numpy()
    surprisal = hits.surprisal[:, n].cpu()[usable].numpy()
    *precision, surprise = means_over_documents(np.vstack([within.T, surprisal]), documents, seed=seed)
    return tuple(precision), surprise, len(documents)
