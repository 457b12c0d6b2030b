"""Documents -> rows of tokens with masks, in batches of about equal cost, from any cursor on.

Axes: b rows, t position in the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from interp.config import Config
from interp.document_hash import split_share
from interp.documents import Documents, open_documents
from interp.errors import ConfigError, DataError
from interp.models import Model

Split = Literal["train", "heldout", "all"]


class MaskPolicy(Config):
    """Which tokens an SAE never sees, in training and in evaluation alike. Padding is always among them."""

    mask_bos: bool = True
    """Leave out the beginning-of-sequence token: its activations are outliers in most models."""
    mask_special: bool = True
    """Leave out the tokenizer's other special tokens."""


class DataConfig(Config):
    """How text becomes rows of tokens."""

    text_field: str = "text"
    """Field or column that holds the text (jsonl, parquet, hub)."""
    context_size: int = Field(256, ge=2)
    """Tokens per row, the BOS token included; at most what the model can read."""
    rows: Literal["padded", "packed"] = "padded"
    """One document piece per row, right-padded, or documents packed back to back without seeing each other."""
    prepend_bos: bool | None = None
    """Begin each row (packed: each document) with BOS; unset: yes if the tokenizer has one."""
    heldout_share: float = Field(0.05, ge=0.0, lt=1.0)
    """Share of the documents, chosen by the hash of their text, kept apart for evaluation."""
    batch_tokens: int = Field(8192, ge=1)
    """Tokens per forward pass of the model."""
    mask: MaskPolicy = MaskPolicy()
    """Tokens left out of training and evaluation."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows for one forward pass.

    Shapes: all (b, t). keep marks the tokens to use; attention_mask is None where rows are packed and
    position_ids, which restart at each document, keep documents apart. document is -1 on padding.
    """

    token_ids: Int[Tensor, "b t"]
    keep: Bool[Tensor, "b t"]
    attention_mask: Int[Tensor, "b t"] | None
    position_ids: Int[Tensor, "b t"]
    document: Int[Tensor, "b t"]

    @property
    def n_kept(self) -> int:
        return int(self.keep.sum())

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device."""
        mask = None if self.attention_mask is None else self.attention_mask.to(device)
        moved = (tensor.to(device) for tensor in (self.position_ids, self.document))
        return TokenBatch(self.token_ids.to(device), self.keep.to(device), mask, *moved)


@dataclass(frozen=True, slots=True)
class _Row:
    token_ids: list[int]
    document: list[int]
    position: list[int]


# Documents are grouped so that rows can be packed and sorted by length with bounded memory and a small cursor.
_GROUP_DOCUMENTS = 512
_GROUP_CHARACTERS = 4_000_000


class TokenStream:
    """Token batches of one split of a data set, for one model."""

    def __init__(self, documents: Documents, model: Model, config: DataConfig, *, split: Split = "train") -> None:
        """Raises: ConfigError if the context is longer than the model's or BOS is asked for where there is none."""
        if model.context_size is not None and config.context_size > model.context_size:
            raise ConfigError(
                f"data.context_size: got {config.context_size}; {model.name} reads at most {model.context_size} tokens"
            )
        if config.prepend_bos and model.bos_token_id is None:
            raise ConfigError(f"data.prepend_bos: {model.name}'s tokenizer has no BOS token; set it to false")
        self.documents, self.config, self.split = documents, config, split
        self._tokenizer = model.tokenizer
        wanted = config.prepend_bos if config.prepend_bos is not None else model.bos_token_id is not None
        self._bos = model.bos_token_id if wanted else None
        self._masked = sorted(_masked_ids(model, config.mask))

    @property
    def prepends_bos(self) -> bool:
        return self._bos is not None

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest records of the data."""
        return {
            "dataset": self.documents.name,
            "content_hash": self.documents.content_hash,
            "split": {"by": "document hash", "heldout_share": self.config.heldout_share, "used": self.split},
            "context_size": self.config.context_size,
            "rows": self.config.rows,
            "prepend_bos": self.prepends_bos,
            "mask_policy": self.config.mask.model_dump(),
        }

    def iter_pass(self) -> Iterator[TokenBatch]:
        """One pass over the split.

        Raises: DataError if the split holds no usable token.
        """
        for cursor, batch in self.iter_from({}):
            if cursor["epoch"] > 0:
                return
            yield batch

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[dict[str, int], TokenBatch]]:
        """Batches for ever, pass after pass, each with the cursor that gives it again; {} is the beginning.

        Raises: DataError if a whole pass holds no usable token.
        """
        epoch, document, skip = (cursor.get(key, 0) for key in ("epoch", "document", "batch"))
        while True:
            usable = document > 0 or skip > 0
            for first, texts in self._groups(document):
                for index, batch in enumerate(self._batches(texts)):
                    usable = usable or batch.n_kept > 0
                    if index >= skip:
                        yield {"epoch": epoch, "document": first, "batch": index}, batch
                skip = 0
            if not usable:
                raise DataError(self._nothing())
            epoch, document = epoch + 1, 0

    def _nothing(self) -> str:
        share = f" ({self.split} split, held-out share {self.config.heldout_share:g})" if self.split != "all" else ""
        return f"{self.documents.name}: no usable token{share}; give more text, or another split or mask"

    def _groups(self, start: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
        group: list[tuple[int, str]] = []
        first, characters = start, 0
        for number, text in self.documents.iter_from(start):
            if text.strip() and self._in_split(text):
                group.append((number, text))
                characters += len(text)
            if len(group) >= _GROUP_DOCUMENTS or characters >= _GROUP_CHARACTERS:
                yield first, group
                group, first, characters = [], number + 1, 0
        if group:
            yield first, group

    def _in_split(self, text: str) -> bool:
        if self.split == "all":
            return True
        return (split_share(text) < self.config.heldout_share) == (self.split == "heldout")

    def _batches(self, texts: Sequence[tuple[int, str]]) -> Iterator[TokenBatch]:
        encoded = self._tokenizer([text for _, text in texts], add_special_tokens=False, verbose=False)["input_ids"]
        numbered = [(number, ids) for (number, _), ids in zip(texts, encoded, strict=True) if ids]
        rows = self._packed(numbered) if self.config.rows == "packed" else self._padded(numbered)
        # Rows of like length share a batch, so that little is padding; batches then come in random order, so that
        # whoever reads on meets short and long documents mixed.
        batches = self._cut(sorted(rows, key=lambda row: len(row.token_ids)))
        order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(texts[0][0]))
        for index in order.tolist():
            yield self._collate(batches[index])

    def _cut(self, rows: Sequence[_Row]) -> list[list[_Row]]:
        """Runs of rows that fit the token budget once they are padded to the longest."""
        batches: list[list[_Row]] = []
        for row in rows:
            if not batches or len(row.token_ids) * (len(batches[-1]) + 1) > self.config.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _padded(self, numbered: Sequence[tuple[int, list[int]]]) -> list[_Row]:
        head = [] if self._bos is None else [self._bos]
        room = self.config.context_size - len(head)
        rows = []
        for number, ids in numbered:
            for start in range(0, len(ids), room):
                piece = head + ids[start : start + room]
                rows.append(_Row(piece, [number] * len(piece), list(range(len(piece)))))
        return rows

    def _packed(self, numbered: Sequence[tuple[int, list[int]]]) -> list[_Row]:
        head = [] if self._bos is None else [self._bos]
        tokens: list[int] = []
        document: list[int] = []
        position: list[int] = []
        size = self.config.context_size
        for number, ids in numbered:
            tokens += head + ids
            document += [number] * (len(head) + len(ids))
            position += range(len(head) + len(ids))
        rows = []
        for start in range(0, len(tokens), size):
            cut = slice(start, start + size)
            rows.append(_Row(tokens[cut], document[cut], _restart(position[cut])))
        return rows

    def _collate(self, rows: Sequence[_Row]) -> TokenBatch:
        width = max(len(row.token_ids) for row in rows)
        shape = (len(rows), width)
        token_ids = torch.full(shape, self._tokenizer.pad_token_id or 0, dtype=torch.int64)
        document = torch.full(shape, -1, dtype=torch.int64)
        position = torch.zeros(shape, dtype=torch.int64)
        for i, row in enumerate(rows):
            n = len(row.token_ids)
            token_ids[i, :n] = torch.tensor(row.token_ids)
            document[i, :n] = torch.tensor(row.document)
            position[i, :n] = torch.tensor(row.position)
        real = document >= 0
        keep = real & ~torch.isin(token_ids, torch.tensor(self._masked, dtype=torch.int64))
        packed = self.config.rows == "packed"
        if not packed:
            position = torch.arange(width).expand(shape).contiguous()
        return TokenBatch(token_ids, keep, None if packed else real.long(), position, document)


def _restart(position: Sequence[int]) -> list[int]:
    """Positions from 0 for a document that a row's edge cut in two."""
    first = position[0]
    cut = next((i for i, p in enumerate(position) if p < first or (i and p == 0)), len(position))
    return [p - first for p in position[:cut]] + list(position[cut:])


def _masked_ids(model: Model, policy: MaskPolicy) -> set[int]:
    special = set(model.tokenizer.all_special_ids)
    bos = set() if model.bos_token_id is None else {model.bos_token_id}
    return (special - bos if policy.mask_special else set()) | (bos if policy.mask_bos else set())


def open_stream(name: str, model: Model, config: DataConfig, *, split: Split = "train") -> TokenStream:
    """Open a data set by name and make token batches of one of its splits for `model`."""
    return TokenStream(open_documents(name, text_field=config.text_field), model, config, split=split)
