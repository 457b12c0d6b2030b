"""The folder in which a pass keeps its shards until it is done, so that a killed one goes on where it was.

Axes: n tokens of text, f features, e firings.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from safetensors import SafetensorError, safe_open
from scipy import sparse
from torch import Tensor

from interp.errors import ArtifactError
from interp.storage import make_folder, read_json, told, write_json, write_tensors

LOG_FILE = "pass.json"
LOG_VERSION = 2
"""Raised whenever shards of another version of this code may not be gone on with."""
Rows = tuple[int, Int[np.ndarray, " n_plus_1"], Int[np.ndarray, " e"]]
"""First place of a stretch of text, where each token's firings begin, and which features fire."""


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A shard that is whole on disk: what it holds, and how many batches stand before its end."""

    file: str
    n_batches: int
    n_places: int
    n_kept: int
    n_firings: int
    largest: float


@dataclass(frozen=True, slots=True)
class Firings:
    """Firings of a block of features, feature by feature, places ascending.

    Feature first + i owns entries offsets[i]:offsets[i + 1].
    """

    first: int
    offsets: Int[np.ndarray, " f_plus_1"]
    places: Int[np.ndarray, " e"]
    values: Float[np.ndarray, " e"]

    @property
    def n_features(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @property
    def counts(self) -> Int[np.ndarray, " f"]:
        """Firings of each feature."""
        return np.diff(self.offsets)

    def part(self, first: int, last: int) -> "Firings":
        """Firings of the block's features first to last - 1, counted from 0."""
        begin, end = self.offsets[first], self.offsets[last]
        offsets = self.offsets[first : last + 1] - begin
        return Firings(self.first + first, offsets, self.places[begin:end], self.values[begin:end])

    def rows(self) -> Int[np.ndarray, " e"]:
        """Which feature of the block each entry belongs to, from 0."""
        return np.repeat(np.arange(self.n_features), self.counts)


class Spill:
    """Shards of one pass. `facts` say what is being passed over; shards of other facts are thrown away."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Raises: StorageError if the folder cannot be written; ArtifactError if its log is damaged."""
        # As they will come back from the log.
        self.folder, self._facts = make_folder(folder), json.loads(json.dumps(facts))
        self.records: list[ShardRecord] = []
        self.complete = False
        if not self._go_on():
            # Before anything else is written: a log of other facts must never stand beside this pass's shards.
            self._log()
        self._sweep()

    def _go_on(self) -> bool:
        """Take over what the log names, if it is a log of the same pass."""
        path = self.folder / LOG_FILE
        log = read_json(path) if path.exists() else None
        if not isinstance(log, dict) or (log.get("version"), log.get("facts")) != (LOG_VERSION, self._facts):
            return False
        try:
            self.records = [ShardRecord(**record) for record in log["shards"]]
            self.complete = bool(log["complete"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{path}: damaged ({error}); remove {self.folder} and collect again") from None
        return True

    def _sweep(self) -> None:
        """Remove what the log does not name: shards of another pass, and what a kill left half written."""
        named = {LOG_FILE, *(record.file for record in self.records)}
        with told(self.folder):
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name not in named:
                    path.unlink()

    @property
    def n_batches(self) -> int:
        """Batches that are on disk."""
        return self.records[-1].n_batches if self.records else 0

    @property
    def n_kept(self) -> int:
        return sum(record.n_kept for record in self.records)

    @property
    def n_places(self) -> int:
        return sum(record.n_places for record in self.records)

    @property
    def n_firings(self) -> int:
        return sum(record.n_firings for record in self.records)

    @property
    def largest(self) -> float:
        """Largest activation seen."""
        return max((record.largest for record in self.records), default=0.0)

    def add(self, tensors: Mapping[str, Tensor], n_batches: int) -> None:
        """Write a shard, then the log that names it."""
        file = f"shard_{len(self.records):05d}.safetensors"
        write_tensors(self.folder / file, tensors)
        values, keep = tensors["feature_values"], tensors["keep"]
        largest = float(values.max()) if values.numel() else 0.0
        sizes = (keep.shape[0], int(keep.sum()), values.shape[0])
        self.records.append(ShardRecord(file, n_batches, *sizes, largest))
        self._log()

    def finish(self) -> None:
        """Note that the text is at its end."""
        self.complete = True
        self._log()

    def remove(self) -> None:
        """Remove the folder, the log first: one that is cut off must not name shards that are gone.

        Raises: StorageError if that cannot be done.
        """
        with told(self.folder):
            (self.folder / LOG_FILE).unlink()
            shutil.rmtree(self.folder)

    def _log(self) -> None:
        shards = [{name: getattr(record, name) for name in ShardRecord.__slots__} for record in self.records]
        log = {"version": LOG_VERSION, "facts": self._facts, "complete": self.complete, "shards": shards}
        write_json(self.folder / LOG_FILE, log)

    def read(self, number: int, *names: str) -> list[Shaped[np.ndarray, "..."]]:
        """Whole arrays of one shard."""
        return [self._slice(number, name, 0, None) for name in names]

    def _slice(self, number: int, name: str, first: int, last: int | None) -> Shaped[np.ndarray, "..."]:
        path = self.folder / self.records[number].file
        try:
            with safe_open(path, framework="numpy") as file:
                stored = file.get_slice(name)
                # The library refuses to slice what is empty.
                found: np.ndarray = stored[first:last] if stored.get_shape()[0] else file.get_tensor(name)
                return found
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}); remove {self.folder} and collect again") from None

    def feature_offsets(self) -> Int[np.ndarray, "shards f_plus_1"]:
        """Where each feature's firings begin in each shard."""
        return np.stack([self.read(number, "feature_offsets")[0] for number in range(len(self.records))])

    def firings(self, offsets: Int[np.ndarray, "shards f_plus_1"], first: int, last: int) -> Firings:
        """Firings of features first to last - 1 in all shards; `offsets` as `feature_offsets` gives them."""
        parts = []
        for number, record in enumerate(self.records):
            own = offsets[number, first : last + 1]
            places = self._slice(number, "feature_places", int(own[0]), int(own[-1]))
            values = self._slice(number, "feature_values", int(own[0]), int(own[-1]))
            parts.append(sparse.csr_array((values, places, own - own[0]), shape=(last - first, record.n_places)))
        joined = sparse.hstack(parts, format="csr")
        return Firings(first, joined.indptr.astype(np.int64), joined.indices.astype(np.int64), joined.data)

    def iter_rows(self, at_most: int) -> Iterator[Rows]:
        """Firings token by token, in runs of shards with together at most `at_most` firings, or of one shard."""
        first, number = 0, 0
        while number < len(self.records):
            group = [number]
            while group[-1] + 1 < len(self.records) and self._firings_of([*group, group[-1] + 1]) <= at_most:
                group.append(group[-1] + 1)
            read = [self.read(index, "row_offsets", "row_features") for index in group]
            counts = np.concatenate([np.diff(offsets) for offsets, _ in read])
            yield first, np.append(0, np.cumsum(counts)), np.concatenate([features for _, features in read])
            first += sum(self.records[index].n_places for index in group)
            number = group[-1] + 1

    def _firings_of(self, group: list[int]) -> int:
        return sum(self.records[index].n_firings for index in group)
