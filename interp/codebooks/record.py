"""One pass over text: which codes were active at every token. Everything that is asked of codes is asked of this.

Axes: n tokens, g groups, k active codes, c codes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from interp.codebooks.batches import NO_TARGET, LanguageBatch
from interp.codebooks.insertion import Codebooks, Insertion
from interp.codebooks.names import CodeName, book_name
from interp.errors import ArtifactError, DataError
from interp.models import Model
from interp.storage import make_folder, read_json, read_tensors, write_json, write_tensors
from interp.token_rows import TokenBatch

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Book:
    """One codebook's part of a record: a head's, or that of a whole hook. Shapes: ids (n, k)."""

    hook: str
    group: int
    n_codes: int
    ids: Int[ndarray, "n k"]

    @property
    def name(self) -> str:
        return book_name(self.hook, self.group)

    def code(self, index: int) -> CodeName:
        """One of its codes."""
        return CodeName(self.hook, self.group, int(index))

    def counts(self) -> Int[ndarray, " c"]:
        """Tokens at which each code was active."""
        return np.bincount(self.ids.ravel(), minlength=self.n_codes)


@dataclass(frozen=True, slots=True)
class CodeRecord:
    """Tokens row by row, padding and framing tokens left out, with the codes active there.

    Shapes: token_ids, next_ids, document, position, row (n,); next_ids is -1 where the row ends. `source` names the
    text ("dataset", "split") and the content hash of the "model".
    """

    token_ids: Int[ndarray, " n"]
    next_ids: Int[ndarray, " n"]
    document: Int[ndarray, " n"]
    position: Int[ndarray, " n"]
    row: Int[ndarray, " n"]
    books: tuple[Book, ...]
    source: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.token_ids)

    def book(self, hook: str, group: int) -> Book:
        """The codebook of a hook and group."""
        return next(book for book in self.books if (book.hook, book.group) == (hook, group))

    @property
    def content_hash(self) -> str:
        """SHA-256 of the tokens and of the codes active at them, whatever `source` says."""
        columns = self._columns()
        shapes = [(name, x.dtype.str, x.shape) for name, x in columns.items()]
        digest = hashlib.sha256(json.dumps([self._book_facts(), shapes]).encode())
        for x in columns.values():
            digest.update(x.tobytes())
        return digest.hexdigest()

    def _columns(self) -> dict[str, ndarray]:
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return columns | {f"ids.{index}": book.ids for index, book in enumerate(self.books)}

    def _book_facts(self) -> list[dict[str, Any]]:
        return [{"hook": book.hook, "group": book.group, "n_codes": book.n_codes} for book in self.books]

    def save(self, path: Path) -> None:
        """Write as safetensors, with a JSON of the codebooks beside it.

        Raises: StorageError.
        """
        make_folder(path.parent)
        digest = write_tensors(path, {name: torch.from_numpy(np.array(x)) for name, x in self._columns().items()})
        books = self._book_facts()
        head = {"schema_version": SCHEMA_VERSION, "kind": "code_record", "books": books, "sha256": digest}
        write_json(path.with_suffix(".json"), head | {"source": dict(self.source)})

    @staticmethod
    def load(path: Path) -> "CodeRecord":
        """Read what `save` wrote.

        Raises: ArtifactError if it is missing, damaged or of another version.
        """
        held = read_json(path.with_suffix(".json"))
        head = held if isinstance(held, dict) else {}
        if head.get("kind") != "code_record" or head.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: is no record of codes of version {SCHEMA_VERSION}; inspect the run again")
        try:
            columns: dict[str, Any] = {name: x.numpy() for name, x in read_tensors(path, sha256=head["sha256"]).items()}
            books = tuple(Book(**book, ids=columns[f"ids.{index}"]) for index, book in enumerate(head["books"]))
            whole = {name: columns[name] for name in _COLUMNS} | {"source": dict(head.get("source", {}))}
            return CodeRecord(**whole, books=books)
        except (KeyError, TypeError, ValueError):
            raise ArtifactError(f"{path}: is damaged; inspect the run again") from None

    def check_model(self, content_hash: str, path: Path) -> None:
        """Raises: ArtifactError if the record, read from `path`, is of another model, or does not say of which."""
        found = self.source.get("model", "")
        if found != content_hash:
            raise ArtifactError(
                f"{path}: is a record of other weights ({found[:12] or 'unknown'}, expected {content_hash[:12]}); "
                "inspect the run again"
            )


_COLUMNS = ("token_ids", "next_ids", "document", "position", "row")


@torch.no_grad()
def record_codes(model: Model, codebooks: Codebooks, batches: Iterable[TokenBatch], *, n_tokens: int) -> CodeRecord:
    """The codes at the first `n_tokens` tokens that are kept, or at all of them if there are fewer.

    Raises: DataError if the batches hold no usable token.
    """
    parts: list[dict[str, ndarray]] = []
    n = 0
    with Insertion(model, codebooks) as insertion:
        n_rows = 0
        for batch in batches:
            rows, keep = LanguageBatch.of(batch, model.device), batch.keep.to(model.device)
            positions = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
            body: Any = model.hf.base_model
            body(rows.token_ids, use_cache=False, **positions)
            following = torch.where(rows.targets == NO_TARGET, -1, rows.targets)
            row = (n_rows + torch.arange(len(keep)))[:, None].expand(keep.shape)
            where = (x.to(model.device) for x in (batch.document, batch.position_ids, row))
            columns = [rows.token_ids, following, *where]
            n_rows += len(keep)
            seen = {hook: found.ids[keep].int().cpu().numpy() for hook, found in insertion.take().items()}
            parts.append({k: x[keep].cpu().numpy() for k, x in zip(_COLUMNS, columns, strict=True)} | seen)
            n += int(keep.sum())
            if n >= n_tokens:
                break
    if not parts:
        raise DataError("got no usable token to look at codes on; give more text")
    whole = {name: np.concatenate([part[name] for part in parts])[:n_tokens] for name in parts[0]}
    books = tuple(
        Book(hook, group, quantiser.n_codes, np.ascontiguousarray(whole[hook][:, group]))
        for hook, quantiser in codebooks.items()
        for group in range(quantiser.n_groups)
    )
    columns_of: dict[str, Any] = {name: whole[name] for name in _COLUMNS}
    return CodeRecord(**columns_of, books=books)
