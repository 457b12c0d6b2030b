"""What steering does to text that it is not about: KL from the unsteered model, and perplexity.

Axes: b rows of text, one a document, t position, d width of the hook, m directions, s strengths, v vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from interp.directions import Direction
from interp.effects import Estimate, ratio_effect
from interp.errors import ConfigError, DataError
from interp.forward import all_outputs
from interp.hooks import Edit
from interp.models import Model
from interp.prompts import Prompts, prompts_of
from interp.steering_results import SideEffects


def neutral_rows(model: Model, texts: Sequence[str], *, n_rows: int = 16, n_tokens: int = 64) -> Prompts:
    """The beginnings of the first texts that are long enough, each its own cluster.

    Raises: ConfigError for an encoder, which predicts no next token; DataError if too few texts are long enough.
    """
    if not model.causal:
        raise ConfigError(f"{model.name} is an encoder and predicts no next token; side effects need a causal model")
    begin = [] if model.frame.begin is None else [model.frame.begin]
    n_tokens = min(n_tokens, model.context_size)
    rows: list[list[int]] = []
    for text in texts:
        ids: list[int] = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(begin) + len(ids) >= n_tokens:
            rows.append([*begin, *ids][:n_tokens])
        if len(rows) == n_rows:
            break
    if len(rows) < 2:
        raise DataError(f"got {len(rows)} texts of at least {n_tokens} tokens; expected two or more; give longer text")
    return prompts_of(rows)


def steered_side_effects(
    model: Model, direction: Direction, strengths: Sequence[float], neutral: Prompts
) -> SideEffects:
    """KL and perplexity of neutral text steered at every token but BOS; intervals over documents."""
    base = _Unsteered.of(model, neutral)
    found = [_row_sums(model, direction.hook, direction.vector * s, neutral, base) for s in strengths]
    kl, nats = (np.stack(parts) for parts in zip(*found, strict=True))
    counts, documents = base.counts, neutral.clusters.numpy()
    loss = ratio_effect(nats, counts, documents)
    perplexity = Estimate(np.exp(loss.value), None if loss.interval is None else np.exp(loss.interval))
    unsteered = float(np.exp(base.nats.sum() / counts.sum()))
    n_documents = len(np.unique(documents))
    return SideEffects(ratio_effect(kl, counts, documents), perplexity, unsteered, int(counts.sum()), n_documents)


def steered_kl(
    model: Model, hook: str, vectors: Float[Tensor, "m d"], strengths: Sequence[float], neutral: Prompts
) -> Float[ndarray, "m s"]:
    """Mean KL a token of every direction at every strength.

    Units: nats.
    """
    base = _Unsteered.of(model, neutral)
    total = base.counts.sum()
    return np.array(
        [[_row_sums(model, hook, vector * s, neutral, base)[0].sum() / total for s in strengths] for vector in vectors]
    )


class _Unsteered(NamedTuple):
    """What the model says of neutral text as it is. Shapes: logp (b, t, v); nats, counts (b,)."""

    logp: Tensor
    nats: Float[ndarray, " b"]
    counts: Float[ndarray, " b"]

    @staticmethod
    def of(model: Model, neutral: Prompts) -> "_Unsteered":
        with torch.no_grad():
            logp = all_outputs(model, neutral).float().log_softmax(2)
        counts = neutral.real[:, 1:].sum(1).double().numpy()
        return _Unsteered(logp, _next_nats(logp, neutral), counts)


def _row_sums(
    model: Model, hook: str, delta: Float[Tensor, " d"], neutral: Prompts, base: _Unsteered
) -> tuple[Float[ndarray, " b"], Float[ndarray, " b"]]:
    """KL and nats of each row, summed over the tokens that predict one of the row."""
    with torch.no_grad():
        logp = all_outputs(model, neutral, {hook: _but_first(delta)}).float().log_softmax(2)
    scored = neutral.real[:, 1:].to(logp.device)
    kl = (base.logp.exp() * (base.logp - logp)).sum(2)[:, :-1]
    return (kl * scored).sum(1).double().cpu().numpy(), _next_nats(logp, neutral)


def _but_first(delta: Float[Tensor, " d"]) -> Edit:
    def edited(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x[:, 1:] += delta.to(x)
        return x

    return edited


def _next_nats(logp: Float[Tensor, "b t v"], neutral: Prompts) -> Float[ndarray, " b"]:
    targets = neutral.token_ids[:, 1:, None].to(logp.device)
    nats = -logp[:, :-1].gather(2, targets)[:, :, 0] * neutral.real[:, 1:].to(logp.device)
    return np.asarray(nats.sum(1).double().cpu().numpy())
