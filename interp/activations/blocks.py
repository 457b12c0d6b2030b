"""Shuffling with bounded memory: fill a block, permute it, drain it in batches.

A cursor is where the block began in the source, which block it is, and how much of it was drained; taking one up again
re-harvests that one block.
"""

from collections.abc import Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor

from interp.activations.harvest import ActivationSource, Cursor, TellsSeconds
from interp.code import ActivationBatch
from interp.config import Config, Seed
from interp.timing import HostLaps, Laps


class ShuffleConfig(Config):
    """How activations are mixed before training."""

    block_tokens: int = Field(65_536, ge=1)
    """Tokens held in memory and permuted together; at least one batch. Memory: block_tokens x width x 4 bytes."""
    seed: Seed | None = None
    """Seed of the order; unset: the run's own. Given, runs of several seeds see the same batches, as in a sweep."""


class ShuffledActivations:
    """Batches of exactly `batch_size` tokens in a random order that depends on the seed alone."""

    def __init__(
        self,
        source: ActivationSource,
        *,
        batch_size: int,
        block_tokens: int,
        seed: int,
        laps: Laps | None = None,
    ) -> None:
        """`laps` is the clock of the device that the activations are on; unset: the host's."""
        self._source, self._batch_size, self._seed = source, batch_size, seed
        self._block_tokens = max(1, block_tokens // batch_size) * batch_size
        self._block: ActivationBatch | None = None
        self.laps = laps or HostLaps()
        """Waiting for the source counts as "harvest", with what the source says of it; the rest is "shuffle"."""
        self.seek({})

    @property
    def widths(self) -> Mapping[str, int]:
        return self._source.widths

    def cursor(self) -> Cursor:
        """Where to go on: pass it to `seek`."""
        return {**{f"source_{k}": v for k, v in self._began.items()}, **self._counters}

    def seek(self, cursor: Mapping[str, int]) -> None:
        """Go to a cursor; {} is the beginning. Nothing is harvested until the next batch is asked for."""
        self._began = {k.removeprefix("source_"): v for k, v in cursor.items() if k.startswith("source_")}
        self._counters = {key: cursor.get(key, 0) for key in ("skip", "block", "drained")}
        self._chunks: Iterator[tuple[Cursor, ActivationBatch]] | None = None
        self._rest: tuple[Cursor, int, ActivationBatch] | None = None
        self._filled = False

    @property
    def n_passes(self) -> int:
        """How many times the whole source had been read when the last activations were made."""
        last = self._began if self._rest is None else self._rest[0]
        return last.get("epoch", 0)

    def close(self) -> None:
        """Let go of the source, so that its threads end; the next batch would harvest the block again."""
        self.seek(self.cursor())

    def peek(self, n_tokens: int) -> ActivationBatch:
        """A random sample of the current block (at most its size), which is not used up by it."""
        if not self._filled:
            self.laps.begin()
            self._fill()
        return self._gather(self._order[:n_tokens])

    def __iter__(self) -> "ShuffledActivations":
        return self

    def __next__(self) -> ActivationBatch:
        if not self._filled:
            self._fill()
        drained = self._counters["drained"]
        batch = self._gather(self._order[drained : drained + self._batch_size])
        self._counters["drained"] = drained + self._batch_size
        if self._counters["drained"] >= self._block_tokens:
            self._turn_page()
        return batch

    def _turn_page(self) -> None:
        self._filled = False
        self._counters = {"skip": self._counters["skip"], "block": self._counters["block"] + 1, "drained": 0}
        if self._rest is not None:
            self._began, self._counters["skip"], _ = self._rest

    def _fill(self) -> None:
        filled = 0
        for start, skip, chunk in self._pending():
            if filled == 0:
                self._began, self._counters["skip"] = start, skip
            taken = min(len(chunk), self._block_tokens - filled)
            self._store(chunk, filled, taken)
            filled += taken
            if filled == self._block_tokens:
                left = chunk.take(slice(taken, None))
                self._rest = (start, skip + taken, left)
                break
        assert self._block is not None
        generator = torch.Generator().manual_seed(_mix(self._seed, self._counters["block"]))
        # Moved once a block: a batch's own rows would make the host wait for the device at every step.
        self._order = torch.randperm(self._block_tokens, generator=generator).to(self._block.token_ids.device)
        self._filled = True

    def _pending(self) -> Iterator[tuple[Cursor, int, ActivationBatch]]:
        if self._rest is not None:
            if len(self._rest[2]):
                yield self._rest
        elif self._chunks is None:
            self._chunks = self._timed(self._source.iter_from(self._began))
            start, chunk = next(self._chunks)
            skip = self._counters["skip"]
            if skip < len(chunk):
                yield start, skip, chunk.take(slice(skip, None))
        assert self._chunks is not None
        for start, chunk in self._chunks:
            yield start, 0, chunk

    def _timed(self, chunks: Iterator[tuple[Cursor, ActivationBatch]]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        told = dict(self._source.seconds) if isinstance(self._source, TellsSeconds) else {}
        while True:
            self.laps.end("shuffle")
            chunk = next(chunks, None)
            self.laps.end("harvest")
            now = dict(self._source.seconds) if isinstance(self._source, TellsSeconds) else {}
            for name, seconds in now.items():
                self.laps.add(name, seconds - told.get(name, 0.0))
            told = now
            if chunk is None:
                return
            yield chunk

    def _store(self, chunk: ActivationBatch, at: int, n: int) -> None:
        if self._block is None:
            self._block = ActivationBatch(
                {hook: _like(x, self._block_tokens) for hook, x in chunk.acts.items()},
                *(_like(x, self._block_tokens) for x in (chunk.token_ids, chunk.document, chunk.position)),
            )
        for hook, x in chunk.acts.items():
            self._block.acts[hook][at : at + n] = x[:n]
        self._block.token_ids[at : at + n] = chunk.token_ids[:n]
        self._block.document[at : at + n] = chunk.document[:n]
        self._block.position[at : at + n] = chunk.position[:n]

    def _gather(self, rows: Tensor) -> ActivationBatch:
        assert self._block is not None
        batch = self._block.take(rows)
        acts = {hook: x.float() for hook, x in batch.acts.items()}
        return ActivationBatch(acts, batch.token_ids, batch.document, batch.position)


def _like(x: Tensor, n: int) -> Tensor:
    return x.new_empty((n, *x.shape[1:]))


def _mix(seed: int, block: int) -> int:
    """One seed per block; consecutive run seeds do not share blocks."""
    return (seed * 0x9E3779B97F4A7C15 + block * 0xBF58476D1CE4E5B9) % (1 << 63)
