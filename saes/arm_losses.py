"""What a language model loses when activations are replaced: cross-entropy and KL, token by token, arm by arm.

Axes: b rows, t position, d width of the hook, v vocabulary, n kept tokens, p predicted tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.activations.harvest import position_ids
from interp.code import ActivationBatch
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

    Shapes: acts of the n kept tokens; log_probs (p, v), nll, targets, predicted_document (p,). Units: nats.
    """

    batch: TokenBatch
    acts: ActivationBatch
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


def run_clean(model: Model, batch: TokenBatch, hooks: Sequence[str]) -> CleanRun:
    """One unchanged forward pass, shared by all arms, with the activations at `hooks`.

    Raises: ShapeError if a hook does not give one vector per token.
    """
    batch = batch.to(model.device)
    predicted = predicted_mask(batch)
    seen: dict[str, Tensor] = {}
    readers = {hook: _reader(hook, seen) for hook in hooks}
    log_probs = _logits(model, batch, readers)[predicted].float().log_softmax(-1)
    targets = batch.token_ids.roll(-1, dims=1)[predicted]
    nll = -log_probs.gather(1, targets[:, None])[:, 0]
    return CleanRun(batch, _kept(batch, seen), predicted, log_probs, nll, targets, batch.document[predicted])


def run_arm(model: Model, clean: CleanRun, replacements: Mapping[str, Float[Tensor, "n _"]]) -> ArmLoss:
    """The same batch with the kept tokens' activations at one or several hooks replaced."""
    edits = {hook: _replace(clean.batch.keep, replacement) for hook, replacement in replacements.items()}
    logits = _logits(model, clean.batch, edits)
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


def _kept(batch: TokenBatch, seen: Mapping[str, Tensor]) -> ActivationBatch:
    for hook, x in seen.items():
        if x.shape[:2] != batch.keep.shape:
            got, tokens = tuple(x.shape), tuple(batch.keep.shape)
            raise ShapeError(f"{hook}: got activations {got} for {tokens} tokens; choose another hook")
    keep = batch.keep
    acts = {hook: x[keep] for hook, x in seen.items()}
    return ActivationBatch(acts, batch.token_ids[keep], batch.document[keep], batch.position_ids[keep])


def _logits(model: Model, batch: TokenBatch, edits: Mapping[str, Edit]) -> Float[Tensor, "b t v"]:
    with torch.no_grad(), edit(model, edits):
        output = model.hf(
            input_ids=batch.token_ids,
            attention_mask=batch.attention_mask,
            position_ids=position_ids(batch),
            use_cache=False,
        )
    logits: Tensor = output.logits
    return logits


def _reader(hook: str, seen: dict[str, Tensor]) -> Edit:
    def function(x: Tensor) -> Tensor:
        # A copy: what goes on through the model may be written into by an edit further down.
        seen[hook] = x.detach().clone()
        return x

    return function


def _replace(keep: Bool[Tensor, "b t"], replacement: Float[Tensor, "n d"]) -> Edit:
    def function(x: Tensor) -> Tensor:
        x[keep] = replacement.to(x.dtype)
        return x

    return function
