"""Rows of text as batches of next tokens to predict, from any cursor on.

Axes: b rows, t position.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from interp.datasets import TokenStream
from interp.token_rows import TokenBatch

NO_TARGET = -100


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """Rows and what follows each token.

    Shapes: all (b, t). targets is NO_TARGET where nothing is predicted; position_ids is None where rows hold one
    document each, from their start.
    """

    token_ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]
    position_ids: Int[Tensor, "b t"] | None = None

    @property
    def n_tokens(self) -> int:
        return int((self.targets != NO_TARGET).sum())

    @staticmethod
    def of(batch: TokenBatch, device: torch.device | str = "cpu") -> "LanguageBatch":
        """Every token predicts the next one of its document."""
        ids, document = batch.token_ids, batch.document
        targets = torch.full_like(ids, NO_TARGET)
        follows = (document[:, 1:] == document[:, :-1]) & (document[:, 1:] >= 0)
        targets[:, :-1] = torch.where(follows, ids[:, 1:], NO_TARGET)
        positions = None if batch.attention_mask is not None else batch.position_ids.to(device)
        return LanguageBatch(ids.to(device), targets.to(device), positions)


class StreamBatches:
    """Batches of a token stream for ever, in its order."""

    def __init__(self, stream: TokenStream, device: torch.device | str = "cpu") -> None:
        self._stream, self._device = stream, device
        self._cursor: dict[str, int] = {}
        self._batches = stream.iter_from({})

    def __next__(self) -> LanguageBatch:
        while True:
            cursor, batch = next(self._batches)
            self._cursor = {**cursor, "batch": cursor["batch"] + 1}
            found = LanguageBatch.of(batch, self._device)
            # A batch of one-token documents predicts nothing.
            if found.n_tokens:
                return found

    def cursor(self) -> dict[str, int]:
        return dict(self._cursor)

    def seek(self, cursor: Mapping[str, int]) -> None:
        self._cursor = dict(cursor)
        self._batches = self._stream.iter_from(cursor)
