"""Activations on disk: flat safetensors shards in data order, with a hashed manifest that is also the resume point."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open

from interp.activations.harvest import ActivationSource, Cursor
from interp.code import ActivationBatch
from interp.config import Config
from interp.errors import ArtifactError, ConfigError
from interp.recording import ProgressLines
from interp.runs import RunFolder, RunManifest
from interp.storage import sha256_of, write_tensors

_CHUNK_TOKENS = 4096


class StoreConfig(Config):
    """How activations are written to disk."""

    shard_tokens: int = Field(131_072, ge=1)
    """Tokens per shard file; held in memory while it is filled."""


def write_store(run: RunFolder, source: ActivationSource, *, n_tokens: int, shard_tokens: int) -> RunManifest:
    """Write shards until the store holds `n_tokens`, going on from what it holds already.

    Raises: StorageError if the disk is full; whole shards stay and the next call goes on after them.
    """
    manifest = run.manifest()
    shards: list[dict[str, Any]] = list(manifest.results.get("shards", []))
    here: dict[str, int] = dict(manifest.results.get("next", {}))
    written = sum(shard["n_tokens"] for shard in shards)
    with ProgressLines("collect", n_tokens, done=written) as progress:
        for end, shard in _shards(source, here, n_tokens - written, shard_tokens):
            name = f"shard_{len(shards):05d}.safetensors"
            digest = write_tensors(run.path / name, _tensors(shard))
            shards.append({"file": name, "n_tokens": len(shard), "sha256": digest})
            written += len(shard)
            results = {"hooks": dict(source.widths), "shards": shards, "next": end, "n_tokens": written}
            manifest = manifest.model_copy(update={"results": results})
            run.write_manifest(manifest)
            progress.show(written, f"shard {len(shards)}")
    manifest = manifest.model_copy(update={"status": "finished"})
    run.write_manifest(manifest)
    return manifest


def read_along(results: Mapping[str, Any], source: ActivationSource, *, n_tokens: int, shard_tokens: int) -> None:
    """Ask the source for what another rank's `write_store` asks it for, whose manifest began with `results`."""
    written = sum(shard["n_tokens"] for shard in results.get("shards", []))
    for _ in _shards(source, dict(results.get("next", {})), n_tokens - written, shard_tokens):
        pass


def _shards(
    source: ActivationSource, start: Mapping[str, int], n_tokens: int, shard_tokens: int
) -> Iterator[tuple[Cursor, ActivationBatch]]:
    """Shards of exactly `shard_tokens` (the last one shorter), each with the cursor of what comes after it."""
    if n_tokens <= 0:
        return
    skip = start.get("skip", 0)
    pieces: list[ActivationBatch] = []
    held, wanted = 0, min(shard_tokens, n_tokens)
    for cursor, chunk in source.iter_from({k: v for k, v in start.items() if k != "skip"}):
        while skip < len(chunk):
            piece = chunk.take(slice(skip, skip + wanted - held))
            pieces.append(piece)
            held += len(piece)
            skip += len(piece)
            if held == wanted:
                yield {**cursor, "skip": skip}, _joined(pieces)
                n_tokens -= held
                pieces, held, wanted = [], 0, min(shard_tokens, n_tokens)
                if n_tokens == 0:
                    return
        skip = 0


def _joined(pieces: list[ActivationBatch]) -> ActivationBatch:
    return ActivationBatch(
        {hook: torch.cat([piece.acts[hook] for piece in pieces]) for hook in pieces[0].acts},
        torch.cat([piece.token_ids for piece in pieces]),
        torch.cat([piece.document for piece in pieces]),
        torch.cat([piece.position for piece in pieces]),
    )


def _tensors(shard: ActivationBatch) -> dict[str, torch.Tensor]:
    index = {"token_ids": shard.token_ids, "document": shard.document, "position": shard.position}
    return {f"acts/{hook}": x for hook, x in shard.acts.items()} | {k: v.int() for k, v in index.items()}


class StoredActivations:
    """Activations read back in data order, pass after pass. Every shard is checked against its hash once."""

    def __init__(self, folder: Path | str, *, hooks: tuple[str, ...] | None = None) -> None:
        """Raises: ArtifactError if the store is unfinished, lacks a hook or lacks a shard."""
        self._run = RunFolder.open(folder)
        self.manifest = self._run.manifest()
        if self.manifest.kind != "activations":
            raise ArtifactError(f"{folder}: holds a {self.manifest.kind!r} run; expected one of `interp collect`")
        if self.manifest.status != "finished":
            raise ArtifactError(f"{folder}: collecting was not finished; run `interp collect ... --resume` first")
        held: dict[str, int] = self.manifest.results["hooks"]
        chosen = hooks or tuple(held)
        for hook in chosen:
            if hook not in held:
                raise ConfigError(f"{folder}: holds {', '.join(held)}; got hook {hook!r}; collect it too")
        self.widths = {hook: held[hook] for hook in chosen}
        self._shards: list[dict[str, Any]] = self.manifest.results["shards"]
        self._checked: set[str] = set()
        for shard in self._shards:
            if not (self._run.path / shard["file"]).is_file():
                raise ArtifactError(f"{self._run.path / shard['file']}: this shard is missing; collect again")

    @property
    def n_tokens(self) -> int:
        return int(self.manifest.results["n_tokens"])

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks in the order in which they were collected.

        Raises: ArtifactError naming a shard that is missing, truncated or changed.
        """
        epoch, first, offset = (cursor.get(key, 0) for key in ("epoch", "shard", "offset"))
        while True:
            for index in range(first, len(self._shards)):
                for at, chunk in self._read(index, offset):
                    yield {"epoch": epoch, "shard": index, "offset": at}, chunk
                offset = 0
            epoch, first = epoch + 1, 0

    def _read(self, index: int, offset: int) -> Iterator[tuple[int, ActivationBatch]]:
        shard = self._shards[index]
        path = self._run.path / shard["file"]
        if shard["file"] not in self._checked:
            if sha256_of(path) != shard["sha256"]:
                raise ArtifactError(f"{path}: content differs from the manifest's hash; it is damaged, collect again")
            self._checked.add(shard["file"])
        try:
            with safe_open(path, framework="pt") as file:
                for at in range(offset, shard["n_tokens"], _CHUNK_TOKENS):
                    rows = slice(at, at + _CHUNK_TOKENS)
                    acts = {hook: file.get_slice(f"acts/{hook}")[rows] for hook in self.widths}
                    index_of = (file.get_slice(name)[rows].long() for name in ("token_ids", "document", "position"))
                    yield at, ActivationBatch(acts, *index_of)
        except SafetensorError as error:
            raise ArtifactError(f"{path}: not a whole safetensors file ({error}); collect again") from None
