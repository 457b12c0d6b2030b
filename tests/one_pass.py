"""Hand-made activations as the shards of a feature pass, beside the same as plain arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from interp.code import Code
from interp.datasets import TokenBatch
from saes.feature_pass.describe import Corpus
from saes.feature_pass.shards import Piece, ShardBuilder
from saes.feature_pass.spill import Firings, Spill
from saes.feature_pass.text import Text, read_text


@dataclass(frozen=True)
class Invented:
    """Text in the order of its places: activations (n, f), token ids, document, whether kept, span."""

    acts: np.ndarray
    token_ids: np.ndarray
    document: np.ndarray
    keep: np.ndarray
    span: np.ndarray
    d_vocab: int

    @property
    def previous(self) -> np.ndarray:
        """The token before, -1 at the start of a span."""
        before = np.append(-1, self.token_ids[:-1])
        return np.where(np.append(-1, self.span[:-1]) == self.span, before, -1)


def invented(
    *, n_features: int = 7, n_documents: int = 60, d_vocab: int = 12, seed: int = 0, longest: int = 30
) -> Invented:
    """Features that listen to tokens, to pairs and to nothing; documents of up to two spans, a tenth of tokens masked.

    The last feature never fires, the one before it fires everywhere.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, 2 * n_documents)
    span = np.repeat(np.arange(lengths.size), lengths)
    document = rng.permutation(np.repeat(np.arange(n_documents), 2))[span] * 3 + 5
    token_ids = rng.choice(d_vocab, span.size, p=np.sort(rng.dirichlet(np.full(d_vocab, 3.0)))[::-1])
    keep = rng.random(span.size) > 0.1
    acts = rng.gamma(2.0, 1.0, (span.size, n_features)) * (rng.random((span.size, n_features)) < 0.1)
    acts[:, 0] += rng.random(span.size) * ((token_ids < 3) & (rng.random(span.size) < 0.8))
    first = Invented(acts, token_ids, document, keep, span, d_vocab)
    pair = (token_ids == 1) & (first.previous == 0)
    acts[:, 1] = (rng.random(span.size) + 1) * (pair | (rng.random(span.size) < 0.002))
    acts[:, 2] = np.where((acts[:, 0] > 0) & (rng.random(span.size) < 0.7), rng.random(span.size), 0)
    acts[:, -1], acts[:, -2] = 0, rng.random(span.size) + 0.01
    acts[~keep] = 0
    return Invented(acts.astype(np.float32), token_ids, document, keep, span, d_vocab)


def spilled(made: Invented, folder: Path, *, rows_per_batch: int = 9, batches_per_shard: int = 3) -> Spill:
    """The same in shards, with padding around it."""
    spill, builder = Spill(folder, {}), ShardBuilder(made.acts.shape[1])
    for number, first in enumerate(range(0, int(made.span.max()) + 1, rows_per_batch), start=1):
        builder.add(_piece(made, range(first, min(first + rows_per_batch, int(made.span.max()) + 1))))
        if number % batches_per_shard == 0:
            spill.add(builder.build(), number)
    if not builder.empty:
        spill.add(builder.build(), number)
    spill.finish()
    return spill


def read(made: Invented, folder: Path) -> tuple[Text, Firings]:
    """Text and the firings of all features as one block."""
    spill = spilled(made, folder)
    return read_text(spill, made.d_vocab), spill.firings(spill.feature_offsets(), 0, made.acts.shape[1])


def corpus(made: Invented, folder: Path, directions: torch.Tensor, level: np.ndarray) -> Corpus:
    """All that blocks share."""
    return Corpus.of(spilled(made, folder), made.d_vocab, directions, level)


def _piece(made: Invented, rows: range) -> Piece:
    lines = [np.flatnonzero(made.span == row) for row in rows]
    width = max(line.size for line in lines)
    grid = torch.full((len(lines), width), -1)
    for index, line in enumerate(lines):
        grid[index, : line.size] = torch.from_numpy(line)
    real, at = grid >= 0, grid.clamp(min=0)
    keep = torch.from_numpy(made.keep)[at] & real
    document = torch.where(real, torch.from_numpy(made.document)[at], -1)
    positions = torch.arange(width).expand(grid.shape).contiguous()
    batch = TokenBatch(torch.from_numpy(made.token_ids)[at], keep, real.long(), positions, document)
    return Piece.of(batch, Code.from_dense(torch.from_numpy(made.acts)[grid[keep]]))
