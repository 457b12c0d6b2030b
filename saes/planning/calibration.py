"""A few seconds of the real work: harvesting, steps and a checkpoint at the config's own sizes."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from interp.activations.courier import Courier
from interp.activations.harvest import Read, harvest_batch, reader_of
from interp.activations.store import StoredActivations
from interp.checkpoints import save_checkpoint, take_state
from interp.code import ActivationBatch
from interp.datasets import TokenBatch, TokenStream
from interp.errors import DataError
from interp.loop import one_step
from interp.models import Model
from interp.storage import told, write_tensors
from saes.base import SAE
from saes.optimiser import make_optimiser
from saes.planning.counts import Counts
from saes.planning.machine import existing_parent, peak_bytes
from saes.train_config import TrainConfig
from saes.training import SAMPLE_TOKENS, empty_sae, start_sae

SECONDS = 2.5
"""Time spent on harvesting, and again on steps."""
SETTLED_TOKENS = 2048
SETTLED_FEATURES = 4096
"""Tokens, and features at a time, by which a penalised SAE is set to the wanted number of active features."""
LARGEST_CHECKPOINT = 1 << 29
"""Bytes up to which a checkpoint is written to see how long that takes; of larger ones a part."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured. A harvested token is one that the SAE will see; a block's first fill is no different.

    Units: seconds; peak_bytes of memory at the worst moment, with `pool_bytes` of activations held throughout.
    """

    compile: float
    per_harvested_token: float
    initialise: float
    per_step: float
    per_checkpoint: float
    peak_bytes: int
    pool_bytes: int


@dataclass(frozen=True, slots=True)
class _Harvested:
    per_token: float
    pool: ActivationBatch
    compile: float = 0.0


def calibrate(
    counts: Counts, source: tuple[Model, TokenStream] | StoredActivations, device: torch.device
) -> Calibration:
    """Run a little of everything, and throw it away.

    Raises: DataError if there is no usable token; NonFiniteError and StorageError as training does.
    """
    config = counts.config
    clock = _Clock(device, *((source[0].device,) if isinstance(source, tuple) else ()))
    read = _read(source, clock) if isinstance(source, StoredActivations) else _harvest(*source, config, clock)
    pool = _enough(Courier(device).send(read.pool).received(), config.batch_size)
    sae = empty_sae(config, {hook: x.shape[1] for hook, x in pool.acts.items()})
    sample = pool.take(slice(0, SAMPLE_TOKENS))
    seconds = clock(lambda: start_sae(sae, config, sample))
    initialised = seconds * min(SAMPLE_TOKENS, counts.block_tokens) / len(sample)
    _settle(sae, sample.stacked(sae.hooks_in))
    optimiser = make_optimiser(sae, config.schedule.lr, config.optimiser)
    per_step = _steps(config, sae, optimiser, pool, clock)
    per_checkpoint = _checkpoint(counts, sae, optimiser, clock)
    held = sum(x.nbytes for x in (*pool.acts.values(), pool.token_ids, pool.document, pool.position))
    return Calibration(read.compile, read.per_token, initialised, per_step, per_checkpoint, peak_bytes(device), held)


@torch.no_grad()
def _settle(sae: SAE, sample: Tensor) -> None:
    """Let a penalised SAE start where most of its steps will be: at the wanted number of active features, not half."""
    if not sae.config.penalised:
        return
    centred, w = sae.centred(sample[:SETTLED_TOKENS]), sae.weights()
    rank = min(max(1, round(sae.config.wanted_l0 / sae.d_sae * centred.shape[0])), centred.shape[0])
    for rows in torch.arange(sae.d_sae, device=centred.device).split(SETTLED_FEATURES):
        bound = (centred @ w.encoder[rows].t()).topk(rank, dim=0).values[-1]
        sae.b_enc[rows] = -bound
    if sae.threshold.ndim:
        sae.threshold.zero_()


class _Clock:
    """Wall time of a call, its work on the devices included."""

    def __init__(self, *devices: torch.device) -> None:
        self._devices = [device for device in devices if device.type == "cuda"]

    def __call__(self, work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        work()
        for device in self._devices:
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun


def _harvest(model: Model, stream: TokenStream, config: TrainConfig, clock: _Clock) -> _Harvested:
    """Seconds per kept token: its share of tokenizing and batching a group of documents, and of a forward pass."""
    found: list[tuple[dict[str, int], TokenBatch]] = []
    # Tokenizing happens once for all batches of a group; the better of two times, since one may be an accident.
    tokenizing = min(clock(lambda: found.append(next(stream.iter_from({})))) for _ in range(2))
    steps = stream.iter_from({})
    found = [next(steps)]
    seconds: list[float] = []
    while _group(found[-1]) == _group(found[0]):
        seconds.append(clock(lambda: found.append(next(steps))))
    # What begins the next group is not a part of this one, and neither is its time.
    prepared = tokenizing + (median(seconds[:-1]) * len(seconds[:-1]) if len(seconds) > 1 else 0.0)
    batches = [batch for _, batch in found[:-1] if batch.n_kept]
    if not batches:
        raise DataError(f"{stream.documents.name}: its first documents hold no usable token; give other text or masks")
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(config.seed)).tolist()
    pieces: list[ActivationBatch] = []
    forward: Read = reader_of(model, config.all_hooks, config.harvest)
    first = batches[order[0]]
    # What is compiled is so before the first timed batch.
    compiling = (
        clock(lambda: harvest_batch(model, first, config.all_hooks, read=forward)) if config.harvest.compile else 0.0
    )

    def harvest(batch: TokenBatch) -> None:
        pieces.append(harvest_batch(model, batch, config.all_hooks, read=forward))

    work = [partial(harvest, batches[i]) for i in order]
    per_token = _per_token(work, [batches[i].n_kept for i in order], clock)
    prepared_per_token = prepared / sum(batch.n_kept for batch in batches)
    # The batch itself is harvested again where it is counted.
    compiling = max(0.0, compiling - per_token * first.n_kept)
    return _Harvested(prepared_per_token + per_token, _joined(pieces), compiling)


def _group(item: tuple[dict[str, int], TokenBatch]) -> tuple[int, int]:
    return item[0]["epoch"], item[0]["document"]


def _read(store: StoredActivations, clock: _Clock) -> _Harvested:
    """Seconds per token read from disk: its share of opening and hashing a shard, and of reading."""
    steps = store.iter_from({})
    pieces: list[ActivationBatch] = []

    def read() -> None:
        pieces.append(next(steps)[1])

    opened = clock(read)
    shard = min(store.n_tokens, store.manifest.results["shards"][0]["n_tokens"])
    n_chunks = max(1, shard // len(pieces[0]) - 1)
    per_token = _per_token([read] * n_chunks, [len(pieces[0])] * n_chunks, clock)
    return _Harvested(opened / shard + per_token, _joined(pieces))


def _per_token(work: Sequence[Callable[[], None]], sizes: Sequence[int], clock: _Clock) -> float:
    """Median seconds per token of as much of the work as fits; the first call warms up and counts only if alone."""
    rates: list[float] = []
    spent = 0.0
    for call, size in zip(work, sizes, strict=True):
        seconds = clock(call)
        rates.append(seconds / size)
        spent += seconds
        if spent > SECONDS:
            break
    return median(rates[1:] or rates)


def _steps(
    config: TrainConfig, sae: SAE, optimiser: torch.optim.Optimizer, pool: ActivationBatch, clock: _Clock
) -> float:
    """Median seconds of a training step, with random batches of the pool."""
    generator = torch.Generator().manual_seed(config.seed)
    device = pool.token_ids.device
    seconds: list[float] = []

    def step() -> None:
        rows = torch.randperm(len(pool), generator=generator)[: config.batch_size].to(device)
        batch = pool.take(rows)
        acts = {hook: x.float() for hook, x in batch.acts.items()}
        given = ActivationBatch(acts, batch.token_ids, batch.document, batch.position)
        lr = config.schedule.at(len(seconds), config.n_steps)
        one_step(sae, optimiser, given, lr=lr, clip_norm=config.clip_norm, step=len(seconds) + 1)

    # The first two allocate.
    while len(seconds) < 5 or (sum(seconds[2:]) < SECONDS and len(seconds) < 200):
        seconds.append(clock(step))
    return median(seconds[2:])


def _checkpoint(counts: Counts, sae: SAE, optimiser: torch.optim.Optimizer, clock: _Clock) -> float:
    """Seconds to write a checkpoint where the run will write its own."""
    share = min(1.0, LARGEST_CHECKPOINT / counts.checkpoint_bytes)
    where = existing_parent(counts.config.out)
    with told(where), tempfile.TemporaryDirectory(prefix=".plan_", dir=where) as folder:
        state = take_state(sae, optimiser, _NoBatches(), step=1, n_tokens=1, metrics_offset=0)
        if share == 1.0:
            return clock(lambda: save_checkpoint(Path(folder), state))
        part = torch.zeros(LARGEST_CHECKPOINT // 4)
        return clock(lambda: write_tensors(Path(folder) / "part", {"part": part})) / share


class _NoBatches:
    """A batch source with nothing to go on from."""

    def __next__(self) -> ActivationBatch:
        raise StopIteration

    def cursor(self) -> dict[str, int]:
        return {}

    def seek(self, cursor: Mapping[str, int]) -> None:
        """There is nowhere to go."""


def _joined(pieces: Sequence[ActivationBatch]) -> ActivationBatch:
    hooks = pieces[0].acts
    index = (torch.cat([getattr(piece, name) for piece in pieces]) for name in ("token_ids", "document", "position"))
    return ActivationBatch({hook: torch.cat([piece.acts[hook] for piece in pieces]) for hook in hooks}, *index)


def _enough(pool: ActivationBatch, n_tokens: int) -> ActivationBatch:
    """The pool, its tokens repeated until there are `n_tokens`."""
    times = -(-n_tokens // len(pool))
    return _joined([pool] * times) if times > 1 else pool
