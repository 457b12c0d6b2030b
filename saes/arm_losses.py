"""What a language model loses when activations are replaced: cross-entropy and KL, token by token, arm by arm.

Axes: b rows, t position, d width of the hook, v vocabulary, n kept tokens, p predicted tokens.
"""

from collections.abc import Iterator
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
class CleanRun:
    """A batch as the model computes it, and what arms are compared with.

    Shapes: acts (n, d) and document (n,) of the kept tokens; log_probs (p, v), nll, targets,
    predicted_document (p,). Units: nats.
    """

    batch: TokenBatch
    hook: str
    acts: Float[Tensor, "n d"]
    document: Int[Tensor, " n"]
    predicted: Bool[Tensor, "b t"]
    log_probs: Float[Tensor, "p v"]
    nll: Float[Tensor, " p"]
    targets: Int[Tensor, " p"]
    predicted_document: Int[Tensor, " p"]


@dataclass(frozen=True, slots=True)
class ArmLoss:
    """Loss of each predicted token, and the distance of the prediction from the clean one.

    Units: nats. kl is KL(clean ‖ arm).
    """

    nll: Float[Tensor, " p"]
    kl: Float[Tensor, " p"]


def predicted_mask(batch: TokenBatch) -> Bool[Tensor, "b t"]:
    """Positions whose prediction counts: kept ones that are followed by a token of the same document.

    The same positions count in every arm; tokens that are not kept (padding, BOS, special) are neither replaced nor
    counted.
    """
    mask = batch.keep.clone()
    mask[:, :-1] &= batch.document[:, 1:] == batch.document[:, :-1]
    mask[:, -1] = False
    return mask


def run_clean(model: Model, batch: TokenBatch, hook: str) -> CleanRun:
    """One unchanged forward pass, shared by all arms.

    Raises: ShapeError if the hook does not give one vector per token.
    """
    batch = batch.to(model.device)
    predicted = predicted_mask(batch)
    seen: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x

    log_probs = _logits(model, batch, hook, record)[predicted].float().log_softmax(-1)
    if seen[0].shape[:2] != batch.keep.shape:
        got = tuple(seen[0].shape)
        raise ShapeError(f"{hook}: got activations {got} for {tuple(batch.keep.shape)} tokens; choose another hook")
    targets = batch.token_ids.roll(-1, dims=1)[predicted]
    acts, document = seen[0][batch.keep], batch.document[batch.keep]
    nll = -log_probs.gather(1, targets[:, None])[:, 0]
    return CleanRun(batch, hook, acts, document, predicted, log_probs, nll, targets, batch.document[predicted])


def run_arm(model: Model, clean: CleanRun, replacement: Float[Tensor, "n d"]) -> ArmLoss:
    """The same batch with the kept tokens' activations replaced."""
    logits = _logits(model, clean.batch, clean.hook, _replace(clean.batch.keep, replacement))
    return compare(clean.log_probs, logits[clean.predicted], clean.targets)


def compare(clean: Float[Tensor, "p v"], logits: Float[Tensor, "p v"], targets: Int[Tensor, " p"]) -> ArmLoss:
    """Loss of `logits` on `targets`, and their KL from the log-probabilities `clean`, some rows at a time."""
    nll, kl = [], []
    parts = (tensor.split(SOFTMAX_ROWS) for tensor in (clean, logits, targets))
    for reference, other_logits, target in zip(*parts, strict=True):
        other = other_logits.float().log_softmax(-1)
        nll.append(-other.gather(1, target[:, None])[:, 0])
        kl.append((reference.exp() * (reference - other)).sum(-1))
    empty = clean.new_zeros(0)
    return ArmLoss(torch.cat([empty, *nll]), torch.cat([empty, *kl]))


def iter_slices(batch: TokenBatch, d_vocab: int) -> Iterator[TokenBatch]:
    """The batch in runs of rows whose logits fit LOGIT_ENTRIES."""
    n_rows = max(1, LOGIT_ENTRIES // (batch.token_ids.shape[1] * d_vocab))
    for start in range(0, batch.token_ids.shape[0], n_rows):
        rows = slice(start, start + n_rows)
        mask = None if batch.attention_mask is None else batch.attention_mask[rows]
        yield TokenBatch(batch.token_ids[rows], batch.keep[rows], mask, batch.position_ids[rows], batch.document[rows])


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
