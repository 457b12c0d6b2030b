"""Tokens and sparse codes on disk while a pass runs: each shard by token and, once more, by feature.

Axes: n tokens of text, s spans, e firings. A span is one document's tokens in one row; places number the tokens of all
spans from 0, padding left out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from interp.code import Code
from interp.datasets import TokenBatch

SHARD_TOKENS = 1 << 16
SHARD_FIRINGS = 1 << 22


@dataclass(frozen=True, slots=True)
class Piece:
    """One batch's text and firings; `begin` is where each span starts, `firings` counts features per token."""

    token_ids: Int[np.ndarray, " n"]
    keep: Bool[np.ndarray, " n"]
    begin: Int[np.ndarray, " s"]
    document: Int[np.ndarray, " s"]
    position: Int[np.ndarray, " s"]
    firings: Int[np.ndarray, " n"]
    features: Int[np.ndarray, " e"]
    values: Float[np.ndarray, " e"]

    @staticmethod
    def of(batch: TokenBatch, code: Code) -> "Piece":
        """`code` has one row per kept token of `batch`."""
        real = (batch.document >= 0).numpy()
        document, row = batch.document.numpy()[real], np.nonzero(real)[0]
        begins = np.ones(document.shape[0], dtype=bool)
        begins[1:] = (document[1:] != document[:-1]) | (row[1:] != row[:-1])
        begin = np.flatnonzero(begins)
        keep = batch.keep.numpy()[real]
        fired = (code.values > 0).numpy()
        per_row = np.add.reduceat(np.append(fired, 0), code.row_offsets[:-1].numpy()) if code.n_rows else fired[:0]
        # An empty row's reduceat is the next row's first entry.
        per_row = np.where(code.row_offsets.diff().numpy() > 0, per_row, 0)
        firings = np.zeros(document.shape[0], dtype=np.int64)
        firings[keep] = per_row
        token_ids, position = batch.token_ids.numpy()[real], batch.position_ids.numpy()[real]
        features, values = code.features.numpy()[fired], code.values.float().numpy()[fired]
        return Piece(token_ids, keep, begin, document[begin], position[begin], firings, features, values)


def on_cpu(code: Code) -> Code:
    """The code where numpy can read it."""
    return Code(code.values.float().cpu(), code.features.cpu(), code.row_offsets.cpu(), code.d_sae)


class ShardBuilder:
    """Pieces gathered until they make a shard."""

    def __init__(self, d_sae: int) -> None:
        self._d_sae = d_sae
        self._pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)

    @property
    def empty(self) -> bool:
        return not self._pieces

    @property
    def full(self) -> bool:
        """Bounded in tokens and in firings, so that memory holds whatever fires."""
        n_tokens = sum(piece.token_ids.shape[0] for piece in self._pieces)
        n_firings = sum(piece.features.shape[0] for piece in self._pieces)
        return bool(n_tokens >= SHARD_TOKENS or n_firings >= SHARD_FIRINGS)

    def build(self) -> dict[str, Tensor]:
        """All pieces as one shard's tensors; the builder is then empty."""
        pieces, self._pieces = self._pieces, []
        offsets = np.cumsum([0] + [piece.token_ids.shape[0] for piece in pieces])
        begin = np.concatenate([piece.begin + offset for piece, offset in zip(pieces, offsets[:-1], strict=True)])
        rows = np.append(0, np.cumsum(np.concatenate([piece.firings for piece in pieces])))
        features = np.concatenate([piece.features for piece in pieces])
        values = np.concatenate([piece.values for piece in pieces])
        shape = (int(offsets[-1]), self._d_sae)
        by_feature = sparse.csr_array((values, features.astype(np.int32), rows.astype(np.int32)), shape=shape).tocsc()
        arrays = {
            "token_ids": np.concatenate([piece.token_ids for piece in pieces]).astype(np.int32),
            "keep": np.concatenate([piece.keep for piece in pieces]),
            "begin": begin.astype(np.int64),
            "document": np.concatenate([piece.document for piece in pieces]).astype(np.int64),
            "position": np.concatenate([piece.position for piece in pieces]).astype(np.int32),
            "row_offsets": rows.astype(np.int32),
            "row_features": features.astype(np.int32),
            "feature_offsets": by_feature.indptr.astype(np.int32),
            "feature_places": by_feature.indices.astype(np.int32),
            "feature_values": by_feature.data.astype(np.float32),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
