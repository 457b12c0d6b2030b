"""How well a language model predicts whole documents, in bits per byte.

Axes: b rows, t position in the row.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from interp.pretraining.rows import NO_TARGET, Piece, by_length, collate

LogitsOf = Callable[[Int[Tensor, "b t"]], Float[Tensor, "b t v"]]


def bits_per_byte(nats: float, texts: Iterable[str]) -> float:
    """Total surprise over the length of the texts in UTF-8."""
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


@torch.no_grad()
def total_nats(
    logits_of: LogitsOf,
    documents: Sequence[Sequence[int]],
    *,
    context_size: int,
    pad_token_id: int,
    device: torch.device | str = "cpu",
    batch_tokens: int = 8192,
) -> float:
    """Surprise of all tokens of all documents after their first (BOS), the end-of-story token included.

    A document longer than the context is read through windows that advance by half a context, so that from the
    second window on every token is predicted from at least half a context. Documents never see each other.
    """
    tensors = [torch.tensor(document) for document in documents]
    windows = [w for i, d in enumerate(documents) for w in _windows(i, len(d) - 1, context_size)]
    total = 0.0
    for batch in by_length(windows, batch_tokens):
        rows = collate(tensors, batch, pad_token_id=pad_token_id, device=device)
        targets = rows.targets
        for row, piece in enumerate(batch):
            # All but a document's first window repeat half of the one before.
            if piece.start:
                targets[row, : context_size // 2] = NO_TARGET
        logits = logits_of(rows.token_ids).flatten(0, 1).float()
        total += float(F.cross_entropy(logits, targets.flatten(), ignore_index=NO_TARGET, reduction="sum"))
    return total


def _windows(document: int, n: int, context_size: int) -> list[Piece]:
    stride = context_size - context_size // 2
    starts = range(0, max(1, n - context_size // 2), stride)
    return [Piece(document, start, min(n, start + context_size)) for start in starts]
