"""What happens around the loop: metrics as JSON lines, checkpoints in time, progress that a person can follow."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from interp.config import Config
from interp.errors import ArtifactError
from interp.health.checks import HealthWatch
from interp.health.expected import Expected
from interp.health.stops import forget_stop, note_stop
from interp.loop import StepDone
from interp.storage import told

Row = dict[str, float | int]


class Recording(Config):
    """How often a run writes something down."""

    log_every: int = Field(20, ge=1)
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between two checkpoints; one is always written at the end."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many checkpoints stay on disk, newest first."""

    def logs(self, step: int, n_steps: int) -> bool:
        """Whether there is a line of metrics for this step."""
        return step % self.log_every == 0 or step == n_steps

    def saves(self, step: int, n_steps: int) -> bool:
        """Whether there is a checkpoint after this step."""
        return step % self.checkpoint_every == 0 or step == n_steps


class MetricsFile:
    """metrics.jsonl, appended line by line; what came after the last checkpoint is cut off on resume."""

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self._path = path
        with told(path):
            path.touch()
            forget_stop(path.parent)
            if (held := path.stat().st_size) < offset:
                raise ArtifactError(f"{path}: got {held} bytes; the checkpoint was made at {offset}; restore the file")
            # Unbuffered, so that a full disk shows when a line is written and not again when the file is closed.
            self._file = path.open("r+b", buffering=0)
            self._file.truncate(offset)
            self._file.seek(offset)

    @property
    def folder(self) -> Path:
        """The run folder that it is in."""
        return self._path.parent

    def write(self, row: Row) -> None:
        with told(self._path):
            self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")

    def sync(self) -> int:
        """Make all lines durable and give the length in bytes."""
        with told(self._path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        self._file.close()


class ProgressLines:
    """A live bar on a terminal, a plain line now and then elsewhere. Everything goes to standard error.

    Without a total it tells how much is done, and not of how much.
    """

    def __init__(self, label: str, total: int | None, *, done: int = 0, seconds_between_lines: float = 15.0) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = self._console.is_terminal
        self._label, self._total = label, total
        self._between, self._last = seconds_between_lines, time.monotonic()
        self._line = ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        more = (TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, *more, console=self._console, disable=not self._live)
        self._task = self._progress.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> "ProgressLines":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, note: str = "") -> None:
        """Tell how far it is; plain lines are spaced out in time, the last one always comes."""
        self._progress.update(self._task, completed=done, note=note)
        late = time.monotonic() - self._last >= self._between
        of = "" if self._total is None else f"/{self._total:,}"
        line = f"{self._label}: {done:,}{of} {note}".rstrip()
        if not self._live and line != self._line and (late or (self._total is not None and done >= self._total)):
            self._last, self._line = time.monotonic(), line
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own, above the bar where there is one."""
        line = f"{self._label}: {text}"
        if self._live:
            self._progress.console.print(line, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_of_stages() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage of a task, begun when first told of: give it the stage, what is done and all there is."""
    with ExitStack() as opened:
        stages: dict[str, ProgressLines] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                opened.close()
                stages[stage] = opened.enter_context(ProgressLines(stage, total))
            stages[stage].show(done)

        yield tell


def record(
    steps: Iterable[StepDone],
    metrics: MetricsFile,
    *,
    n_steps: int,
    recording: Recording,
    save: Callable[[StepDone], None],
    more: Callable[[StepDone], Row] | None = None,
) -> Iterator[tuple[StepDone, Row | None]]:
    """Each step once it is logged and checkpointed, where it is to be, with the row that was written of it.

    What ends it early is noted beside the metrics, so that whoever looks at the run later is told.
    """
    clock, finished = _Clock(), False
    try:
        for done in steps:
            clock.add(done)
            row = None
            if recording.logs(done.step, n_steps):
                row = row_of(done) | (more(done) if more else {}) | clock.read(done)
                metrics.write(row)
            if recording.saves(done.step, n_steps):
                save(done)
            finished = done.step == n_steps
            yield done, row
    except BaseException as error:
        if not finished:
            note_stop(metrics.folder, error)
        raise


def shown(
    steps: Iterable[tuple[StepDone, Row | None]],
    *,
    label: str,
    n_steps: int,
    start: int = 0,
    expected: Expected | None = None,
) -> Iterator[StepDone]:
    """The steps that `record` gives, with their progress for a person; `start` counts those that were done before.

    Troubles are told as they arise, held to what is `expected`. The last line tells the tokens per second of all these
    steps, waits and writing included; the others that of the steps since the line of metrics before.
    """
    watch = HealthWatch(expected or Expected())
    began, n_tokens = time.monotonic(), 0
    over = f"since step {start:,}" if start else "over the whole run"
    with ProgressLines(label, n_steps, done=start) as progress:
        for done, row in steps:
            n_tokens += done.report.n_tokens
            if row is not None:
                code = done.report.code
                for alert in watch.add(row, d_sae=None if code is None else code.d_sae):
                    progress.say(f"{alert.level}: {alert.line()}")
                rate = f"{row['tokens_per_s']:,.0f} tokens/s"
                if done.step == n_steps:
                    rate = f"{n_tokens / max(time.monotonic() - began, 1e-9):,.0f} tokens/s {over}"
                progress.show(done.step, f"{_note(row)}  {rate}")
            yield done


def row_of(done: StepDone) -> Row:
    """What metrics.jsonl says of a step."""
    row: Row = {"step": done.step, "n_tokens": done.n_tokens, "loss": float(done.report.loss.detach())}
    terms = {name: float(value) for name, value in done.report.terms.items()}
    # A batch of equal tokens has no variance to explain: what is not defined is left out.
    row |= {name: value for name, value in terms.items() if math.isfinite(value)}
    return row | {"lr": done.lr, "grad_norm": done.grad_norm}


STRETCHES = ("harvest", "shuffle", "update")
"""Stretches that a run's time is made of, one after another."""
BESIDE = ("text", "ahead")
"""What lies inside a stretch or beside all: waiting for text is a part of harvest; ahead is the work of threads."""


class _Clock:
    """Throughput between two readings."""

    def __init__(self) -> None:
        self._tokens = 0
        self._before: dict[str, float] = {}

    def add(self, done: StepDone) -> None:
        self._tokens += done.report.n_tokens

    def read(self, done: StepDone) -> Row:
        now = done.laps.totals()
        taken = {name: seconds - self._before.get(name, 0.0) for name, seconds in now.items()}
        seconds = max(sum(taken.get(name, 0.0) for name in STRETCHES), 1e-9)
        row: Row = {"tokens_per_s": round(self._tokens / seconds, 1)}
        row |= {f"seconds_{name}": round(taken.get(name, 0.0), 4) for name in STRETCHES}
        row |= {f"seconds_{name}": round(taken[name], 4) for name in BESIDE if name in taken}
        self._tokens, self._before = 0, now
        return row


def _note(row: dict[str, Any]) -> str:
    shown = [f"loss {row['loss']:.4g}"] if "loss" in row else []
    shown += [f"EV {row['explained_variance']:.3f}"] if "explained_variance" in row else []
    shown += [f"L0 {row['l0']:.1f}"] if "l0" in row else []
    return "  ".join(shown)
