"""What a change to activations costs the model on running text.

Axes: b rows, t position, d width of the hook, n kept tokens.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from interp.datasets import TokenBatch
from interp.hooks import edit
from interp.models import Model
from probes.intervals import Score, cluster_interval, mean_of

Change = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]
"""Activations of kept tokens -> what shall stand there instead."""


@dataclass(frozen=True, slots=True)
class TextCost:
    """Units: nats per next token; intervals resample documents."""

    delta_ce: Score
    kl: Score


class TextCosts:
    """Running text with the model's clean predictions, against which changes are measured."""

    def __init__(self, model: Model, batches: Sequence[TokenBatch], hook: str) -> None:
        """Raises: UnknownHookError if the model lacks the hook."""
        model.hook(hook)
        self._model, self._batches, self._hook = model, [batch.to(model.device) for batch in batches], hook
        self._clean = [_log_probabilities(model, batch) for batch in self._batches]

    def of(self, change: Change, *, seed: int = 0) -> TextCost:
        """Rise in cross-entropy, and KL from the clean predictions, with kept tokens' activations changed."""
        ce, kl, document = [], [], []
        for batch, clean in zip(self._batches, self._clean, strict=True):
            with edit(self._model, {self._hook: _OfKept(batch, change)}):
                changed = _log_probabilities(self._model, batch)
            scored = _scored(batch)
            target = batch.token_ids[:, 1:][scored]
            rows = torch.arange(target.shape[0], device=target.device)
            ce.append((clean[rows, target] - changed[rows, target]).double().cpu().numpy())
            kl.append((clean.exp() * (clean - changed)).sum(1).double().cpu().numpy())
            document.append(batch.document[:, :-1][scored].cpu().numpy())
        if not ce:
            return TextCost(Score(math.nan), Score(math.nan))
        where = np.concatenate(document)
        return TextCost(_mean(ce, where, seed), _mean(kl, where, seed))


@dataclass(frozen=True, slots=True)
class _OfKept:
    batch: TokenBatch
    change: Change

    def __call__(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        keep = self.batch.keep
        x[keep] = self.change(x[keep]).to(x)
        return x


def _scored(batch: TokenBatch) -> Tensor:
    """Kept tokens whose next token is kept too, as (b, t - 1)."""
    return batch.keep[:, :-1] & batch.keep[:, 1:]


@torch.no_grad()
def _log_probabilities(model: Model, batch: TokenBatch) -> Float[Tensor, "n v"]:
    logits: Tensor = model.hf(input_ids=batch.token_ids, use_cache=False).logits
    return torch.log_softmax(logits[:, :-1][_scored(batch)].float(), dim=-1)


def _mean(parts: Sequence[Float[ndarray, " n"]], document: Int[ndarray, " n"], seed: int) -> Score:
    return cluster_interval(mean_of(np.concatenate(parts)), document, seed=seed)
