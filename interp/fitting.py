"""A fit inside a run folder: goes on from a state, writes metrics and checkpoints, shows progress."""

from collections.abc import Callable

import torch

from interp.checkpoints import TrainState, restore_state, save_checkpoint, take_state
from interp.loop import BatchSource, Schedule, StepDone, Trainable, fit
from interp.recording import MetricsFile, Recording, Row, record
from interp.runs import RunFolder


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
) -> None:
    """Run all steps that `state` has not done yet; `more` adds to the rows of metrics.jsonl.

    Raises: ArtifactError if the state does not fit the task; NonFiniteError and StorageError as the loop and the
    files do, with the last checkpoint intact.
    """
    if state is not None:
        restore_state(state, task, optimiser, batches)
    start, tokens, offset = (state.step, state.n_tokens, state.metrics_offset) if state else (0, 0, 0)
    metrics = MetricsFile(run.metrics_path, offset=offset)
    steps = fit(
        task,
        optimiser,
        batches,
        schedule=schedule,
        n_steps=n_steps,
        clip_norm=clip_norm,
        start_step=start,
        start_tokens=tokens,
    )

    def save(done: StepDone) -> None:
        now = take_state(
            task, optimiser, batches, step=done.step, n_tokens=done.n_tokens, metrics_offset=metrics.sync()
        )
        save_checkpoint(run.checkpoints, now, keep=recording.keep_checkpoints)

    try:
        record(steps, metrics, label=label, n_steps=n_steps, recording=recording, save=save, start=start, more=more)
    finally:
        metrics.close()
