"""A fit inside a run folder: goes on from a state, writes metrics and checkpoints; alone, or one of several in step."""

import shlex
import sys
from collections.abc import Callable, Iterator

import torch

from interp.checkpoints import TrainState, drop_old, restore_state, save_checkpoint, take_state
from interp.health.expected import expected_of
from interp.loop import BatchSource, Schedule, StepDone, Trainable, fit
from interp.recording import MetricsFile, Recording, Row, record, shown
from interp.runs import RunFolder


class FolderFit:
    """A fit whose steps are logged and checkpointed in its run folder; whoever iterates `steps` drives it.

    It stands where `state` left off as soon as it is built. Several of them can take turns.
    """

    def __init__(
        self,
        run: RunFolder,
        task: Trainable,
        optimiser: torch.optim.Optimizer,
        batches: BatchSource,
        *,
        schedule: Schedule,
        n_steps: int,
        clip_norm: float,
        recording: Recording,
        state: TrainState | None = None,
        more: Callable[[StepDone], Row] | None = None,
        whole: Callable[[TrainState], TrainState] | None = None,
    ) -> None:
        """`more` adds to the rows of metrics.jsonl; `whole` makes the state to save of that of the task.

        Raises: ArtifactError if the state does not fit the task or the metrics file is shorter than it was.
        """
        if state is not None:
            restore_state(state, task, optimiser, batches)
            drop_old(run.checkpoints, step=state.step, keep=recording.keep_checkpoints)
        self.run, self.start = run, state.step if state else 0
        self._task, self._optimiser, self._batches = task, optimiser, batches
        self._n_steps, self._recording, self._whole = n_steps, recording, whole
        self._metrics = MetricsFile(run.metrics_path, offset=state.metrics_offset if state else 0)
        done = fit(
            task,
            optimiser,
            batches,
            schedule=schedule,
            n_steps=n_steps,
            clip_norm=clip_norm,
            start_step=self.start,
            start_tokens=state.n_tokens if state else 0,
        )
        self.steps: Iterator[tuple[StepDone, Row | None]] = record(
            done, self._metrics, n_steps=n_steps, recording=recording, save=self._save, more=more
        )
        """The steps that are left to do; NonFiniteError and StorageError as the loop and the files raise them, with
        the last checkpoint intact."""

    def _save(self, done: StepDone) -> None:
        now = take_state(
            self._task,
            self._optimiser,
            self._batches,
            step=done.step,
            n_tokens=done.n_tokens,
            metrics_offset=self._metrics.sync(),
        )
        now = now if self._whole is None else self._whole(now)
        save_checkpoint(self.run.checkpoints, now, keep=self._recording.keep_checkpoints)

    def close(self) -> None:
        """Let go of the files."""
        self._metrics.close()


def fit_in_folder(
    run: RunFolder,
    task: Trainable,
    optimiser: torch.optim.Optimizer,
    batches: BatchSource,
    *,
    label: str,
    schedule: Schedule,
    n_steps: int,
    clip_norm: float,
    recording: Recording,
    state: TrainState | None = None,
    more: Callable[[StepDone], Row] | None = None,
    whole: Callable[[TrainState], TrainState] | None = None,
) -> None:
    """Run all steps that `state` has not done yet; `more` adds to the rows of metrics.jsonl, `whole` to what is saved.

    Raises: as FolderFit and its steps do.
    """
    one = FolderFit(
        run,
        task,
        optimiser,
        batches,
        schedule=schedule,
        n_steps=n_steps,
        clip_norm=clip_norm,
        recording=recording,
        state=state,
        more=more,
        whole=whole,
    )
    try:
        expected = expected_of(run.path)
        print(f"{label}: `interp watch {shlex.quote(str(run.path))}` shows how it goes", file=sys.stderr, flush=True)
        for _ in shown(one.steps, label=label, n_steps=n_steps, start=one.start, expected=expected):
            pass
    finally:
        one.close()


def follow(
    task: Trainable,
    optimiser: torch.optim.Optimizer,
    batches: BatchSource,
    *,
    schedule: Schedule,
    n_steps: int,
    clip_norm: float,
    recording: Recording,
    more: Callable[[StepDone], Row],
    whole: Callable[[TrainState], TrainState],
    state: TrainState | None = None,
) -> None:
    """What every rank but the first does while that one fits in its folder: the same steps, and nothing written.

    Raises: as `fit` does; RankLostError where another rank is gone.
    """
    if state is not None:
        restore_state(state, task, optimiser, batches)
    start, start_tokens = (state.step, state.n_tokens) if state else (0, 0)
    where: dict[str, int] = {"start_step": start, "start_tokens": start_tokens}
    for done in fit(task, optimiser, batches, schedule=schedule, n_steps=n_steps, clip_norm=clip_norm, **where):
        if recording.logs(done.step, n_steps):
            more(done)
        if recording.saves(done.step, n_steps):
            whole(take_state(task, optimiser, batches, step=done.step, n_tokens=done.n_tokens, metrics_offset=0))
