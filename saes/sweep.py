"""`interp sweep`: many SAEs from one stream of activations, each byte-identical to the same SAE trained alone.

Every step takes one batch and gives it to each member in turn. A member's losses are a pure function of it, and nothing
that trains draws from a generator that members share, so that no member can tell that there are others.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from interp.activations.blocks import ShuffledActivations
from interp.checkpoints import load_checkpoint
from interp.code import ActivationBatch
from interp.distributed import ALONE, Ranks, check_devices
from interp.errors import InterpError, NonFiniteError, RankLostError
from interp.fitting import FolderFit
from interp.loop import StepDone
from interp.models import resolve_device
from interp.recording import ProgressLines, Row
from interp.timing import Laps
from saes.origin import Origin, open_origin
from saes.sweep_config import Member, SweepConfig
from saes.sweep_folder import SweepFolder, SweepRecord
from saes.sweep_memory import check_memory
from saes.sweep_ranks import by_all, own_members, put_together, to_same_place
from saes.training import Fit, begin_fit, finish_fit, shuffled


def sweep(
    config: SweepConfig,
    *,
    resume: bool = False,
    on_start: Callable[[SweepRecord], None] | None = None,
    ranks: Ranks = ALONE,
) -> SweepFolder:
    """Train all members into config.out; `resume` goes on from the last step that all have a checkpoint of.

    `on_start` is told what is about to be trained, once everything has been checked. Several ranks share the forward
    passes and the members.

    A member whose loss or gradients are not finite is set aside with its message, and the others go on.

    Raises: any InterpError; whatever was checkpointed before it stays usable.
    """
    folder = SweepFolder(config.out)
    found = ranks.from_first(lambda: _found(config, folder, resume=resume))
    if found == "finished":
        return folder
    check_devices(ranks, resolve_device(config.base.device))
    origin = open_origin(config.base, config.hooks, ranks=ranks)
    ranks.check_same("model and data", [origin.model.get("content_hash"), origin.data])
    shared = SharedBatches(shuffled(config.base, origin))
    memory = ranks.from_first(lambda: check_memory(config, origin.source.widths))
    if found == "running":
        record = ranks.from_first(folder.record).model_copy(update={"memory_bytes": memory})
        fits = by_all(lambda: _go_on(config, folder, record, origin, shared, ranks), ranks)
    else:
        record, fits = _begin(config, folder, origin, shared, memory, ranks)
    if on_start is not None:
        on_start(record)
    with ExitStack() as opened:
        opened.callback(shared.batches.close)
        lanes = {name: _lane(config, fit, shared, opened) for name, fit in fits.items()}
        to_same_place(shared, ranks, placed=bool(fits))
        record = _train(config, folder, record, shared, lanes, ranks)
    _finish(config, folder, record, fits, ranks)
    return folder


def _found(config: SweepConfig, folder: SweepFolder, *, resume: bool) -> Literal["none", "running", "finished"]:
    """Raises: ConfigError if another sweep, or one that is not to be gone on with, is in the folder."""
    if not (resume and folder.started):
        folder.check_free(config)
        return "none"
    folder.check_same_config(config)
    return folder.record().status


class SharedBatches:
    """One stream for many fits: `fetch` takes the next batch, and every fit gets that one until it is called again."""

    def __init__(self, batches: ShuffledActivations) -> None:
        self.batches = batches
        self.begun = time.perf_counter()
        self._batch: ActivationBatch | None = None

    @property
    def seconds(self) -> float:
        """Time in harvesting and shuffling so far, by the clock of the device. Waits for it where there is one."""
        told = self.batches.laps.totals()
        return told.get("harvest", 0.0) + told.get("shuffle", 0.0)

    def warm(self) -> None:
        """Fill the first block, in which initial weights look for a sample, so that its time is counted here."""
        self.batches.laps.begin()
        self.batches.peek(1)
        self.batches.laps.end("shuffle")

    def fetch(self) -> None:
        """Take the next batch."""
        self.batches.laps.begin()
        self._batch = next(self.batches)
        self.batches.laps.end("shuffle")

    def __next__(self) -> ActivationBatch:
        assert self._batch is not None
        return self._batch

    def cursor(self) -> dict[str, int]:
        """Where the stream stands; the same for all."""
        return self.batches.cursor()

    def seek(self, cursor: Mapping[str, int]) -> None:
        """Go to a cursor; members of one sweep all have the same."""
        self.batches.seek(cursor)


@dataclass(slots=True)
class _Lane:
    """A member on its way: its steps and what they took."""

    steps: Iterator[tuple[StepDone, Row | None]]
    n_steps: int = 0
    _laps: Laps | None = None

    def advance(self) -> None:
        """One step with the batch that was fetched."""
        done, _ = next(self.steps)
        self._laps = done.laps
        self.n_steps += 1

    @property
    def seconds(self) -> float:
        """What the steps took."""
        return 0.0 if self._laps is None else self._laps.totals()["update"]


def _begin(
    config: SweepConfig,
    folder: SweepFolder,
    origin: Origin,
    shared: SharedBatches,
    memory: dict[str, int],
    ranks: Ranks,
) -> tuple[SweepRecord, dict[str, Fit]]:
    def open_folder() -> SweepRecord:
        facts: dict[str, Any] = {"model": origin.model, "data": origin.recorded_data(), "memory_bytes": memory}
        record = SweepRecord.begin(config.members(), **facts)
        folder.begin(config, record)
        return record

    was_there = folder.path.is_dir()
    record = ranks.from_first(open_folder)
    origin.take_recorded(record.data)
    try:
        shared.warm()
        own = own_members(config, ranks)
        return record, by_all(lambda: {m.name: begin_fit(m.config, origin, shared.batches) for m in own}, ranks)
    except InterpError as error:
        # What was wrong is wrong with the config: nothing of the sweep shall stand in the way of the mended one.
        if ranks.first and not isinstance(error, RankLostError):
            _clear(folder, was_there=was_there)
        raise


def _clear(folder: SweepFolder, *, was_there: bool) -> None:
    shutil.rmtree(folder.path / "runs", ignore_errors=True)
    for path in (folder.record_path, folder.config_path):
        path.unlink(missing_ok=True)
    if not was_there:
        folder.path.rmdir()


def _go_on(
    config: SweepConfig,
    folder: SweepFolder,
    record: SweepRecord,
    origin: Origin,
    shared: SharedBatches,
    ranks: Ranks,
) -> dict[str, Fit]:
    """This rank's members that have not come to an end, all at the sweep's step."""
    left = [member for member in own_members(config, ranks) if not _ended(folder, record, member)]
    paths = {member.name: folder.go_back(member.name, record.step) for member in left}
    if record.step == 0:
        shared.warm()
    fits = {}
    for member in left:
        path = paths[member.name]
        state = None if path is None else load_checkpoint(path)
        fits[member.name] = begin_fit(member.config, origin, shared.batches, state=state, goes_on=state is not None)
    return fits


def _ended(folder: SweepFolder, record: SweepRecord, member: Member) -> bool:
    """Whether a member has failed, or was finished: by a sweep that was cut off at its end, or by itself."""
    run = folder.run(member.name)
    if record.members[member.name].status == "failed":
        return True
    return run.started and run.manifest().status == "finished"


def _lane(config: SweepConfig, fit: Fit, shared: SharedBatches, opened: ExitStack) -> _Lane:
    one = fit.config
    # The round before must outlive one that is cut off.
    recording = config.base.recording.model_copy(
        update={"keep_checkpoints": max(2, config.base.recording.keep_checkpoints)}
    )
    in_folder = FolderFit(
        fit.run,
        fit.sae,
        fit.optimiser,
        shared,
        schedule=one.schedule,
        n_steps=one.n_steps,
        clip_norm=one.clip_norm,
        recording=recording,
        state=fit.state,
        more=fit.row,
    )
    opened.callback(in_folder.close)
    return _Lane(in_folder.steps)


def _train(
    config: SweepConfig,
    folder: SweepFolder,
    record: SweepRecord,
    shared: SharedBatches,
    lanes: dict[str, _Lane],
    ranks: Ranks,
) -> SweepRecord:
    """All steps that are left, in lockstep; gives the record as it then is."""
    base, tally, own = config.base, _Tally(record, shared), own_members(config, ranks)
    with ProgressLines("sweep", base.n_steps, done=record.step) as progress:
        for step in range(record.step + 1, base.n_steps + 1):
            if not any(ranks.total(len(lanes))):
                break
            shared.fetch()
            for name, lane in list(lanes.items()):
                try:
                    lane.advance()
                except NonFiniteError as error:
                    record = record.with_member(name, status="failed", message=str(error))
                    _write(folder, record, ranks)
                    tally.retire(name, lanes.pop(name))
            if base.recording.saves(step, base.n_steps) and any(ranks.total(len(lanes))):
                record = put_together(tally.told(record, lanes), own, ranks).model_copy(update={"step": step})
                _write(folder, record, ranks)
            progress.show(step, tally.note(lanes, base.batch_size))
    return put_together(tally.told(record, lanes), own, ranks)


def _write(folder: SweepFolder, record: SweepRecord, ranks: Ranks) -> None:
    if ranks.first:
        folder.write_record(record)


class _Tally:
    """Where the time of a sweep goes, on top of what its record told when it was taken up."""

    def __init__(self, record: SweepRecord, shared: SharedBatches) -> None:
        self._before, self._shared = record, shared
        self._retired: dict[str, _Lane] = {}

    def retire(self, name: str, lane: _Lane) -> None:
        """Keep what a member took that goes no further."""
        self._retired[name] = lane

    def told(self, record: SweepRecord, lanes: Mapping[str, _Lane]) -> SweepRecord:
        """The record with all that was taken so far."""
        for name, lane in {**self._retired, **lanes}.items():
            then = self._before.members[name]
            record = record.with_member(name, seconds=then.seconds + lane.seconds, n_steps=then.n_steps + lane.n_steps)
        return record.model_copy(
            update={
                "seconds_harvest": self._before.seconds_harvest + self._shared.seconds,
                "seconds": self._before.seconds + time.perf_counter() - self._shared.begun,
            }
        )

    def note(self, lanes: Mapping[str, _Lane], batch_size: int) -> str:
        """A line for whoever watches."""
        seconds = max(time.perf_counter() - self._shared.begun, 1e-9)
        n_steps = max((lane.n_steps for lane in lanes.values()), default=0)
        failed = f"  {len(self._retired)} failed" if self._retired else ""
        speed = f"{n_steps * batch_size / seconds:,.0f} tokens/s"
        return f"{len(lanes)} SAEs  {speed}{failed}"


def _finish(
    config: SweepConfig, folder: SweepFolder, record: SweepRecord, fits: Mapping[str, Fit], ranks: Ranks
) -> None:
    """Save every member that came to its end, and say what became of each."""
    own = own_members(config, ranks)
    for name in (member.name for member in own):
        member = record.members[name]
        if member.status == "failed":
            run = folder.run(name)
            manifest = run.manifest()
            run.write_manifest(manifest.model_copy(update={"results": {**manifest.results, "failed": member.message}}))
            continue
        if name in fits:
            finish_fit(fits[name])
        record = record.with_member(name, status="finished")
    record = put_together(record, own, ranks)
    _write(folder, record.model_copy(update={"status": "finished"}), ranks)
    # Nobody leaves before the record says so.
    ranks.total(0)
