"""What a language model loses when activations are replaced: cross-entropy and KL, token by token, arm by arm.

Axes: b rows, t position, d width of the hook, v vocabulary, n kept tokens, p predicted tokens.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.harvest import position_ids
from interp.datasets import TokenBatch
from interp.errors import ShapeError
from interp.hooks import Edit, edit
from interp.models import Model

LOGIT_ENTRIES = 1 << 26
"""Logits computed in one forward pass; more rows than that are taken in turns."""
SOFTMAX_ROWS = 1024
"""Predictions whose log-probabilities stand in memory at once."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Loss of each predicted token under one replacement, and its distance from the clean prediction.

    Units: nats. kl is KL(clean ‖ arm).
    """

    nll: Float[Tensor, " p"]
    kl: Float[Tensor, " p"]


@dataclass(frozen=True, slots=True)
class Splice:
    """A batch run clean once and once per arm.

    Shapes: acts (n, d) and document (n,) of the kept tokens; predicted_document (p,); clean_nll (p,).
    """

    acts: Float[Tensor, "n d"]
    document: Int[Tensor, " n"]
    predicted_document: Int[Tensor, " p"]
    clean_nll: Float[Tensor, " p"]
    arms: Mapping[str, Arm]


Replacements = Callable[[Float[Tensor, "n d"]], Mapping[str, Float[Tensor, "n d"]]]
"""From the kept tokens' activations to what stands there instead, by name of the arm."""


def predicted_mask(batch: TokenBatch) -> Bool[Tensor, "b t"]:
    """Positions whose prediction counts: kept ones that are followed by a token of the same document.

    The same positions count in every arm; tokens that are not kept (padding, BOS, special) are neither replaced nor
    counted.
    """
    mask = batch.keep.clone()
    mask[:, :-1] &= batch.document[:, 1:] == batch.document[:, :-1]
    mask[:, -1] = False
    return mask


def splice(model: Model, batch: TokenBatch, hook: str, replacements: Replacements) -> Splice:
    """Run the model clean, then once for each replacement of the kept tokens' activations at `hook`.

    Raises: ShapeError if the hook does not give one vector per token.
    """
    batch = batch.to(model.device)
    predicted = predicted_mask(batch)
    targets = batch.token_ids.roll(-1, dims=1)[predicted]
    seen: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x

    clean = _logits(model, batch, hook, record)[predicted]
    if seen[0].shape[:2] != batch.keep.shape:
        got = tuple(seen[0].shape)
        raise ShapeError(f"{hook}: got activations {got} for {tuple(batch.keep.shape)} tokens; choose another hook")
    acts = seen[0][batch.keep]
    arms = {}
    for name, replacement in replacements(acts).items():
        logits = _logits(model, batch, hook, _replace(batch.keep, replacement))[predicted]
        arms[name] = compare(clean, logits, targets)
    clean_nll = compare(clean, clean, targets).nll
    return Splice(acts, batch.document[batch.keep], batch.document[predicted], clean_nll, arms)


def compare(
    clean: Float[Tensor, "p v"], spliced: Float[Tensor, "p v"], targets: Int[Tensor, " p"]
) -> Arm:
    """Loss of `spliced` on `targets`, and KL(clean ‖ spliced), a slice of rows at a time."""
    nll, kl = [], []
    for rows in torch.arange(clean.shape[0], device=clean.device).split(SOFTMAX_ROWS):
        reference = clean[rows].float().log_softmax(-1)
        other = spliced[rows].float().log_softmax(-1)
        nll.append(-other.gather(1, targets[rows, None])[:, 0])
        kl.append((reference.exp() * (reference - other)).sum(-1))
    empty = clean.new_zeros(0, dtype=torch.float32)
    return Arm(torch.cat([empty, *nll]), torch.cat([empty, *kl]))


def iter_slices(batch: TokenBatch, d_vocab: int) -> Iterator[TokenBatch]:
    """The batch in runs of rows whose logits fit LOGIT_ENTRIES."""
    n_rows = max(1, LOGIT_ENTRIES // (batch.token_ids.shape[1] * d_vocab))
    for start in range(0, batch.token_ids.shape[0], n_rows):
        rows = slice(start, start + n_rows)
        mask = None if batch.attention_mask is None else batch.attention_mask[rows]
        yield TokenBatch(
            batch.token_ids[rows], batch.keep[rows], mask, batch.position_ids[rows], batch.document[rows]
        )


def _logits(model: Model, batch: TokenBatch, hook: str, function: Edit) -> Float[Tensor, "b t v"]:
    with torch.no_grad(), edit(model, {hook: function}):
        output = model.hf(
            input_ids=batch.token_ids,
            attention_mask=batch.attention_mask,
            position_ids=position_ids(batch),
            use_cache=False,
        )
    logits: Tensor = output.logits
    return logits


def _replace(keep: Bool[Tensor, "b t"], replacement: Float[Tensor, "n d"]) -> Edit:
    def function(x: Tensor) -> Tensor:
        x[keep] = replacement.to(x.dtype)
        return x

    return function
