"""`interp encode`: texts -> one sparse Parquet file that says what made it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import ConfigError, DataError
from interp.recording import ProgressLines
from interp.runs import installed_versions, this_command
from interp.storage import is_there, make_folder, new_file, told
from interp.texts import Texts
from saes.encoding import COLUMNS, Entries, iter_entries
from saes.opening import OpenedSAE

SCHEMA_VERSION = 1
METADATA_KEY = "interp.encoding"
"""Where the file's metadata (JSON) stands among the Parquet file's key-value pairs."""
ROW_GROUP_ENTRIES = 1 << 20
"""Entries that are held in memory and written together."""


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """What was written. n_tokens counts those without an entry too, n_features those that fired at least once."""

    path: Path
    n_documents: int
    n_tokens: int
    n_entries: int
    n_features: int
    n_bytes: int


def encode_file(
    opened: OpenedSAE, texts: Texts, out: Path, *, features: Sequence[int] | None = None, overwrite: bool = False
) -> EncodedFile:
    """Encode texts into a Parquet file, which is there whole or not at all, with progress on standard error.

    Raises: ConfigError if the file is there already, unless `overwrite`, or is one of the texts; DataError if no text
    holds a usable token.
    """
    if is_there(out) and _is_text(out, texts):
        raise ConfigError(f"{out}: is among the texts, which are not written over; give another --out")
    if is_there(out) and not (overwrite and out.is_file()):
        raise ConfigError(f"{out}: is there already; give another --out, or --overwrite to replace a file")
    make_folder(out.parent)
    entries = iter_entries(opened.model, opened.sae, texts, opened.rows, features=features)
    with new_file(out) as temporary:
        counted = _write(temporary, entries, texts.n_documents, _provenance(opened, texts, features))
        if counted["n_tokens"] == 0:
            raise DataError(f"{texts.name}: no usable token; give text, or an SAE with another mask policy")
    return EncodedFile(out, **counted, n_bytes=out.stat().st_size)


def _is_text(out: Path, texts: Texts) -> bool:
    """Whether a file is the one that the texts come from, or stands in their folder."""
    source = Path(texts.name)
    return is_there(source) and out.resolve().is_relative_to(source.resolve())


def read_provenance(path: Path) -> dict[str, Any]:
    """What an encoded file says of itself: SAE, model, masks, rows, counts.

    Raises: DataError if it is not a Parquet file that `encode_file` wrote.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path).metadata or {}
        found: dict[str, Any] = json.loads(metadata[METADATA_KEY.encode()])
    except (OSError, pyarrow.ArrowException, KeyError) as error:
        raise DataError(f"{path}: not a file of `interp encode` ({' '.join(str(error).split())[:120]})") from None
    return found


def _write(
    path: Path, entries: Iterable[Entries], n_documents: int | None, provenance: dict[str, Any]
) -> dict[str, int]:
    counted = {"n_documents": 0, "n_tokens": 0, "n_entries": 0}
    fired: np.ndarray = np.zeros(provenance["sae"]["d_sae"], dtype=bool)
    with ProgressLines("encode", n_documents) as progress, _Writer(path) as writer:
        for part in entries:
            writer.add(part)
            fired[part.feature] = True
            counted["n_documents"] += part.n_documents
            counted["n_tokens"] += part.n_tokens
            counted["n_entries"] += len(part)
            progress.show(counted["n_documents"], f"documents, {counted['n_tokens']:,} tokens")
        counted["n_features"] = int(fired.sum())
        writer.finish({**provenance, **counted})
    return counted


class _Writer:
    """A Parquet file of entries, written a row group at a time; its metadata comes last."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        kinds = (pyarrow.int64(), pyarrow.int32(), pyarrow.int32(), pyarrow.int32(), pyarrow.float32())
        self._schema = pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
        self._path, self._n_held = path, 0
        self._held: list[pyarrow.Table] = []
        with told(path):
            self._file = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with told(self._path):
            self._file.close()

    def add(self, part: Entries) -> None:
        self._held.append(part.table())
        self._n_held += len(part)
        if self._n_held >= ROW_GROUP_ENTRIES:
            self._flush()

    def finish(self, metadata: dict[str, Any]) -> None:
        self._flush()
        with told(self._path):
            self._file.add_key_value_metadata({METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})

    def _flush(self) -> None:
        import pyarrow

        if self._n_held:
            with told(self._path):
                self._file.write_table(pyarrow.concat_tables(self._held).cast(self._schema))
        self._held, self._n_held = [], 0


def _provenance(opened: OpenedSAE, texts: Texts, features: Sequence[int] | None) -> dict[str, Any]:
    facts, rows, sae = opened.facts, opened.rows, opened.sae
    origin: dict[str, Any] = {"hook": facts.hook, "architecture": facts.architecture, "seed": facts.seed}
    if sae.hooks_in != sae.hooks_out or len(sae.hooks_in) > 1:
        origin |= {"hooks_in": list(sae.hooks_in), "hooks_out": list(sae.hooks_out)}
    return {
        "schema_version": SCHEMA_VERSION,
        "command": this_command(),
        "versions": installed_versions(),
        "sae": {"path": str(opened.path), "d_sae": sae.d_sae, **origin},
        "model": opened.model.facts,
        "mask_policy": rows.mask.facts,
        "context_size": rows.context_size,
        "prepend_bos": rows.prepend_bos,
        "texts": texts.name,
        "features": "all" if features is None else sorted(set(features)),
    }
