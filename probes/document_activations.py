"""What every feature does in every document: its mean and its strongest token, and that token's context.

Axes: b rows of tokens, t position, n documents, d width, f features, m chosen features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.datasets import TokenBatch, TokenStream
from interp.models import Model

Encode = Callable[[Float[Tensor, "b d"]], Float[Tensor, "b f"]]
"""Activations of some tokens -> features, neurons or codes of each, dense."""
Tell = Callable[[int], None]
"""Is told how many documents were read."""
AROUND = 24
"""Tokens of context on either side of the strongest one."""


@dataclass(frozen=True, slots=True)
class DocumentActivations:
    """Shapes: mean, peak (n, f) over the kept tokens of each document; document (n,) its number; n_tokens (n,)."""

    mean: Float[ndarray, "n f"]
    peak: Float[ndarray, "n f"]
    document: Int[ndarray, " n"]
    n_tokens: Int[ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Context:
    """A token on which a feature is strong, with what stands around it; acts are of every token shown, 0 if left out.

    peak: which of the tokens it is. position: of that token in its row.
    """

    value: float
    document: int
    position: int
    peak: int
    token_ids: tuple[int, ...]
    acts: tuple[float, ...]


@torch.no_grad()
def document_activations(
    model: Model, stream: TokenStream, hooks: Sequence[str], encode: Encode, *, tell: Tell | None = None
) -> DocumentActivations:
    """One pass over the stream; documents without a kept token are left out.

    Raises: DataError if there is no usable token.
    """
    sums: dict[int, ndarray] = {}
    peaks: dict[int, ndarray] = {}
    counts: dict[int, int] = {}
    for acts, document in _encoded(model, stream, hooks, encode):
        for one in document.unique().tolist():
            rows = acts[document == one]
            total, peak = rows.double().sum(0).cpu().numpy(), rows.max(0).values.double().cpu().numpy()
            sums[one] = sums[one] + total if one in sums else total
            peaks[one] = np.maximum(peaks[one], peak) if one in peaks else peak
            counts[one] = counts.get(one, 0) + rows.shape[0]
        if tell:
            tell(len(counts))
    numbers = sorted(counts)
    n_tokens = np.array([counts[one] for one in numbers])
    mean = np.stack([sums[one] for one in numbers]) / n_tokens[:, None]
    return DocumentActivations(mean, np.stack([peaks[one] for one in numbers]), np.array(numbers), n_tokens)


def _encoded(
    model: Model, stream: TokenStream, hooks: Sequence[str], encode: Encode
) -> Iterator[tuple[Float[Tensor, "b f"], Int[Tensor, " b"]]]:
    for batch in stream.iter_pass():
        if batch.n_kept:
            acts = harvest_batch(model, batch, hooks)
            yield encode(acts.stacked(hooks)), acts.document


@torch.no_grad()
def strongest_contexts(
    model: Model, stream: TokenStream, hooks: Sequence[str], encode: Encode, features: Sequence[int], *, n: int = 4
) -> dict[int, list[Context]]:
    """For each feature the `n` documents with its strongest tokens, one token of each, the strongest first.

    Documents in which it goes no higher than exactly zero are none of them.
    """
    best: dict[int, dict[int, Context]] = {feature: {} for feature in features}
    for batch in stream.iter_pass():
        if not batch.n_kept:
            continue
        acts = encode(harvest_batch(model, batch, hooks).stacked(hooks))[:, list(features)].float().cpu()
        whole = torch.zeros(*batch.token_ids.shape, len(features))
        whole[batch.keep] = acts
        for column, feature in enumerate(features):
            _keep_best(best[feature], batch, whole[..., column], n)
    return {
        feature: sorted(held.values(), key=lambda one: (-one.value, one.document))[:n] for feature, held in best.items()
    }


def _keep_best(held: dict[int, Context], batch: TokenBatch, acts: Float[Tensor, "b t"], n: int) -> None:
    """Take the batch's strongest tokens of `n` documents into what is held; more than `n` may stay held."""
    values, places = acts.masked_fill(~batch.keep, -torch.inf).flatten().sort(descending=True, stable=True)
    floor = sorted((one.value for one in held.values()), reverse=True)[n - 1] if len(held) >= n else -torch.inf
    met: set[int] = set()
    for value, flat in zip(values.tolist(), places.tolist(), strict=True):
        # A feature that is zero does not fire: there is nothing to show.
        if value <= floor or value == 0 or len(met) >= n:
            return
        row, place = divmod(flat, acts.shape[1])
        document = int(batch.document[row, place])
        if document not in met and (document not in held or value > held[document].value):
            held[document] = _context(batch, acts, row, place)
        met.add(document)


def _context(batch: TokenBatch, acts: Float[Tensor, "b t"], row: int, place: int) -> Context:
    same: Bool[Tensor, " t"] = batch.document[row] == batch.document[row, place]
    there = same.nonzero().flatten().tolist()
    first, last = max(there[0], place - AROUND), min(there[-1], place + AROUND) + 1
    return Context(
        value=float(acts[row, place]),
        document=int(batch.document[row, place]),
        position=place,
        peak=place - first,
        token_ids=tuple(batch.token_ids[row, first:last].tolist()),
        acts=tuple(acts[row, first:last].tolist()),
    )
