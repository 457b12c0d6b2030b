"""Texts -> which features fire on which token, in the order of the texts and in bounded memory.

Axes: n entries, t position in a row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.code_edits import check_features
from interp.datasets import DataConfig, TokenStream
from interp.documents import Documents
from interp.errors import ConfigError, DataError
from interp.models import Model
from interp.several import check_several
from interp.token_rows import EncodedDocument, Row, TokenBatch, collate
from saes.base import SAE
from saes.opening import OpenedSAE

if TYPE_CHECKING:
    import pyarrow

TOKENIZED_DOCUMENTS = 256
"""Documents that are tokenized together."""
TOKENIZED_CHARACTERS = 1_000_000
"""Characters after which no more documents join them."""
GROUP_BATCHES = 4
"""Forward passes whose rows are sorted by length together, so that little of them is padding."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Active features by token: the sparse table that `interp encode` writes. Inactive features have no entry.

    Shapes: document, position, token, feature, activation (n,), ascending by the first, second and fourth.
    Units: document counts the texts from 0, empty ones included; position a document's tokens from 0, the BOS that
    was put before it included. n_documents texts and n_tokens tokens were encoded, those without entries included.
    """

    document: Int[np.ndarray, " n"]
    position: Int[np.ndarray, " n"]
    token: Int[np.ndarray, " n"]
    feature: Int[np.ndarray, " n"]
    activation: Float[np.ndarray, " n"]
    n_documents: int
    n_tokens: int

    def __len__(self) -> int:
        return int(self.feature.shape[0])

    def table(self) -> "pyarrow.Table":
        """The columns as an Arrow table (`.to_pandas()` and polars take it from there)."""
        import pyarrow

        return pyarrow.table({name: getattr(self, name) for name in COLUMNS})


COLUMNS = tuple(field.name for field in fields(Entries))[:5]


def encode_texts(opened: OpenedSAE, texts: Iterable[str], *, features: Sequence[int] | None = None) -> "pyarrow.Table":
    """All active features of all tokens as an Arrow table with columns document, position, token, feature, activation.

    Raises: DataError if no text holds a usable token; ConfigError for a feature that the SAE does not have, or a single
    string instead of texts.
    """
    import pyarrow

    parts = list(iter_entries(opened.model, opened.sae, texts, opened.rows, features=features))
    if not any(part.n_tokens for part in parts):
        raise DataError("got no usable token from the texts; give more text, or another mask")
    return pyarrow.concat_tables([part.table() for part in parts]).combine_chunks()


def iter_entries(
    model: Model, sae: SAE, texts: Iterable[str], rows: DataConfig, *, features: Sequence[int] | None = None
) -> Iterator[Entries]:
    """Entries of some documents after the other, as `rows` says what a row is and which tokens are left out.

    A document is read from its start; one longer than `rows.context_size` in windows that do not see each other.
    Memory is bounded by `rows.batch_tokens` and the longest text.

    Raises: ConfigError for a feature that the SAE does not have, or a single string; NonFiniteError as harvesting does.
    """
    check_several("texts", texts)
    wanted = None
    if features is not None:
        wanted = torch.zeros(sae.d_sae, dtype=torch.bool)
        wanted[check_features(tuple(features), sae.d_sae)] = True
    cutter = _Rows(model, rows)
    for n_documents, group in cutter.groups(texts):
        parts = [_encoded(model, sae, cutter.batch(some), wanted) for some in cutter.batches(group)]
        yield _joined(parts, n_documents)


class _Rows:
    """Cuts documents into rows whose positions are those in the document, and puts rows together."""

    def __init__(self, model: Model, config: DataConfig) -> None:
        config = DataConfig(**{**config.model_dump(), "rows": "padded"})
        nothing = Documents("texts", "", lambda _: iter(()))
        self._stream = TokenStream(nothing, model, config, split="all")
        self._budget, self._pad = config.batch_tokens, model.tokenizer.pad_token_id or 0
        self._room = config.context_size - len(self._stream.begin) - len(self._stream.end)
        if self._room < 1:
            raise ConfigError(f"context_size: got {config.context_size}; expected room for text beside [CLS] and [SEP]")

    def groups(self, texts: Iterable[str]) -> Iterator[tuple[int, list[Row]]]:
        """Rows of about GROUP_BATCHES forward passes, with the number of documents that begin among them."""
        held: list[Row] = []
        n_documents, size = 0, 0
        for some in _tokenized_together(texts):
            for document in self._stream.encode(some):
                n_documents += 1
                for row in self._windows(document):
                    held.append(row)
                    size += len(row)
                    if size >= GROUP_BATCHES * self._budget:
                        yield n_documents, held
                        held, n_documents, size = [], 0, 0
        if held or n_documents:
            yield n_documents, held

    def _windows(self, document: EncodedDocument) -> Iterator[Row]:
        """The document's rows. What stands around a window's text is the document's own only at its two ends."""
        stream = self._stream
        n_begin, n_end, n_tokens = len(stream.begin), len(stream.end), len(document.token_ids)
        for start in range(0, n_tokens, self._room):
            cut = slice(start, start + self._room)
            ids = [*stream.begin, *document.token_ids[cut], *stream.end]
            last = start + self._room >= n_tokens
            usable = [start == 0] * n_begin + document.usable[cut] + [last] * n_end
            yield Row(ids, usable, [document.number] * len(ids), list(range(start, start + len(ids))))

    def batches(self, group: Sequence[Row]) -> Iterator[list[Row]]:
        """Rows of like length that fit the budget of a forward pass once they are padded."""
        held: list[Row] = []
        for row in sorted(group, key=len):
            if held and len(row) * (len(held) + 1) > self._budget:
                yield held
                held = []
            held.append(row)
        if held:
            yield held

    def batch(self, rows: Sequence[Row]) -> TokenBatch:
        """The rows padded. Positions go on from window to window; padded rows give the model positions of its own."""
        batch = collate(rows, pad=self._pad, masked=self._stream.masked, packed=False)
        self._stream.check_vocabulary(batch)
        starts = torch.tensor([row.position[0] for row in rows])
        return replace(batch, position_ids=batch.position_ids + starts[:, None])


def _tokenized_together(texts: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    held: list[tuple[int, str]] = []
    characters = 0
    for number, text in enumerate(texts):
        # White space alone is no document; it keeps its number.
        held.append((number, text if text.strip() else ""))
        characters += len(text)
        if len(held) >= TOKENIZED_DOCUMENTS or characters >= TOKENIZED_CHARACTERS:
            yield held
            held, characters = [], 0
    if held:
        yield held


@torch.no_grad()
def _encoded(model: Model, sae: SAE, batch: TokenBatch, wanted: Tensor | None) -> tuple[dict[str, np.ndarray], int]:
    """Columns of a batch, and how many tokens it kept."""
    if batch.n_kept == 0:
        return {}, 0
    acts = harvest_batch(model, batch, sae.hooks_in)
    code = sae.encode(acts.stacked(sae.hooks_in))
    keep = code.values > 0
    if wanted is not None:
        keep &= wanted.to(keep.device)[code.features.long()]
    rows = code.rows()[keep]
    columns = {
        "document": acts.document[rows],
        "position": acts.position[rows].int(),
        "token": acts.token_ids[rows].int(),
        "feature": code.features[keep].int(),
        "activation": code.values[keep].float(),
    }
    return {name: column.cpu().numpy() for name, column in columns.items()}, len(acts)


_TYPES = (np.int64, np.int32, np.int32, np.int32, np.float32)


def _joined(parts: Sequence[tuple[dict[str, np.ndarray], int]], n_documents: int) -> Entries:
    held = [columns for columns, _ in parts if columns]
    whole = {
        name: np.concatenate([columns[name] for columns in held]) if held else np.zeros(0, kind)
        for name, kind in zip(COLUMNS, _TYPES, strict=True)
    }
    order = _order(whole["document"], whole["position"], whole["feature"])
    n_tokens = sum(n for _, n in parts)
    columns = {name: column[order] for name, column in whole.items()}
    return Entries(n_documents=n_documents, n_tokens=n_tokens, **columns)


def _order(
    document: Int[np.ndarray, " n"], position: Int[np.ndarray, " n"], feature: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """What sorts entries by document, position and feature: one key, since rows are sorted runs of it already."""
    if not feature.shape[0]:
        return np.zeros(0, np.int64)
    tokens = (document - document.min()) * (int(position.max()) + 1) + position
    return np.argsort(tokens * (int(feature.max()) + 1) + feature, kind="stable")
