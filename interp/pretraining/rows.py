"""Documents as rows of tokens to predict: one piece of one document per row, rows of like length together.

Axes: b rows, t position in the row.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

NO_TARGET = -100


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """Rows and what is to be predicted at each position.

    Shapes: both (b, t). targets is NO_TARGET on padding, which is on the right.
    """

    token_ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]

    @property
    def n_tokens(self) -> int:
        return int((self.targets != NO_TARGET).sum())


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens start … stop of a document are read, start + 1 … stop + 1 predicted."""

    document: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class DocumentRows:
    """An endless, seekable sequence of batches. Every pass cuts long documents elsewhere and reorders everything.

    A document is BOS, text, BOS: the last one is only ever predicted and is the end-of-story signal. A document longer
    than the context becomes several rows, each beginning at position 0.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        *,
        context_size: int,
        batch_tokens: int,
        pad_token_id: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._documents = [torch.tensor(document) for document in documents]
        self._context, self._batch_tokens = context_size, batch_tokens
        self._pad, self._seed, self._device = pad_token_id, seed, device
        self.seek({"epoch": 0, "batch": 0})

    def cursor(self) -> dict[str, int]:
        return {"epoch": self._epoch, "batch": self._next}

    def seek(self, cursor: Mapping[str, int]) -> None:
        self._epoch, self._next = cursor["epoch"], cursor["batch"]
        self._batches = self._order(self._epoch)

    def __next__(self) -> PredictionBatch:
        if self._next == len(self._batches):
            self.seek({"epoch": self._epoch + 1, "batch": 0})
        pieces = self._batches[self._next]
        self._next += 1
        return collate(self._documents, pieces, pad_token_id=self._pad, device=self._device)

    def _order(self, epoch: int) -> list[list[Piece]]:
        generator = random.Random(f"{self._seed} {epoch}")
        pieces = [p for i, d in enumerate(self._documents) for p in _cut(i, len(d) - 1, self._context, generator)]
        generator.shuffle(pieces)
        # Sorting within pools of some 60 batches leaves almost no padding and keeps batches mixed.
        pool = max(1, 60 * self._batch_tokens // max(1, sum(map(len, pieces)) // len(pieces)))
        batches = []
        for first in range(0, len(pieces), pool):
            batches += by_length(pieces[first : first + pool], self._batch_tokens)
        generator.shuffle(batches)
        return batches


def _cut(document: int, n: int, context_size: int, generator: random.Random) -> list[Piece]:
    if n <= context_size:
        return [Piece(document, 0, n)]
    # The first cut is drawn, so that over the passes every position also occurs with a long context.
    n_pieces = -(-n // context_size)
    stop = generator.randint(n - (n_pieces - 1) * context_size, context_size)
    pieces = [Piece(document, 0, stop)]
    while stop < n:
        pieces.append(Piece(document, stop, min(n, stop + context_size)))
        stop = pieces[-1].stop
    return pieces


def by_length(pieces: Sequence[Piece], batch_tokens: int) -> list[list[Piece]]:
    """Batches of at most `batch_tokens` tokens, padding included, longest pieces first."""
    ordered = sorted(pieces, key=len, reverse=True)
    batches, first = [], 0
    while first < len(ordered):
        n_rows = max(1, batch_tokens // len(ordered[first]))
        batches.append(ordered[first : first + n_rows])
        first += n_rows
    return batches


def collate(
    documents: Sequence[Tensor], pieces: Sequence[Piece], *, pad_token_id: int, device: torch.device | str = "cpu"
) -> PredictionBatch:
    """Pieces as right-padded rows with their targets."""
    shape = (len(pieces), max(map(len, pieces)))
    token_ids = torch.full(shape, pad_token_id, dtype=torch.int64)
    targets = torch.full(shape, NO_TARGET, dtype=torch.int64)
    for row, piece in enumerate(pieces):
        token_ids[row, : len(piece)] = documents[piece.document][piece.start : piece.stop]
        targets[row, : len(piece)] = documents[piece.document][piece.start + 1 : piece.stop + 1]
    return PredictionBatch(token_ids.to(device), targets.to(device))
