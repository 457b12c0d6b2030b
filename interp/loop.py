"""The one training loop, used by SAEs, lenses, codebooks and pretraining alike.

A step reads: `task.losses(batch)` (pure), then `update(...)`, the only place where weights move; `one_step` is both.
`fit` yields reports; logging, saving and stopping belong to whoever iterates (see interp.recording).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from interp.code import Code
from interp.config import Config
from interp.errors import NonFiniteError
from interp.timing import Laps, laps_on


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one batch gave: loss with its graph, named terms (detached scalars) and, for dictionaries, the code.

    `batch` is what it was given, for tasks that look at it again after the update. `holds`, where it is given, is
    known to the device alone: whether what the report takes for granted is so (see `ProvisionalTask`).
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    n_tokens: int
    code: Code | None = None
    batch: Any = None
    holds: Tensor | None = None


@runtime_checkable
class Trainable(Protocol):
    """What the loop can fit. A torch module whose parameters and buffers are all of its state."""

    def losses(self, batch: Any) -> StepReport:
        """Loss of a batch. Pure: logging may call it too."""
        ...

    def project_gradients(self) -> None:
        """Adjust gradients after backward and before clipping (nothing for most)."""
        ...

    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """Restore constraints and advance counters after the optimiser moved the weights (nothing for most)."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


@runtime_checkable
class ProvisionalTask(Protocol):
    """A task whose losses need not wait for the device: it takes for granted what nearly always is so."""

    def provisional_losses(self, batch: Any) -> StepReport:
        """As `losses`, but for an update alone, which asks the device in the end whether the report `holds`."""
        ...

    def refused(self) -> None:
        """Told where it did not; the same batch comes again by `losses`."""
        ...


@runtime_checkable
class SpreadTask(Protocol):
    """A task of which each of several ranks holds a part: the norm that clips is that of the whole."""

    def gradient_norm(self) -> float:
        """Norm of the gradients of all ranks, which all of them ask for."""
        ...


@runtime_checkable
class ClippingOptimiser(Protocol):
    """An optimiser that projects and clips in the same pass over the weights in which it updates them.

    Of a spread task it knows the other ranks, so that the norm that clips is that of the whole.
    """

    def step_clipped(self, clip_norm: float, sound: Tensor) -> Tensor:
        """Gives the gradient norm before clipping; NaN, and no weight has moved, if it is not finite or not `sound`."""
        ...


@runtime_checkable
class BatchSource(Protocol):
    """Batches in a fixed order that can be taken up again at a cursor."""

    def __next__(self) -> Any: ...
    def cursor(self) -> dict[str, int]: ...
    def seek(self, cursor: Mapping[str, int]) -> None: ...


@runtime_checkable
class TimedSource(Protocol):
    """A source of batches with a clock, by which it ends a stretch as "harvest" where it waited for its input."""

    laps: Laps


class Schedule(Config):
    """Learning rate over the run: linear warm-up, constant, then decay to zero."""

    lr: float = Field(3e-4, gt=0)
    """Peak learning rate."""
    warmup_share: float = Field(0.02, ge=0, le=1)
    """Share of the steps over which the learning rate rises from zero."""
    decay_share: float = Field(0.2, ge=0, le=1)
    """Share of the steps, at the end, over which it falls to zero."""
    decay: Literal["linear", "cosine"] = "linear"
    """Shape of the fall."""

    def at(self, step: int, n_steps: int) -> float:
        """Learning rate of a step counted from 0."""
        warmup = max(1, round(self.warmup_share * n_steps))
        decay = max(1, round(self.decay_share * n_steps))
        rise = min(1.0, (step + 1) / warmup)
        left = min(1.0, (n_steps - step) / decay) if self.decay_share > 0 else 1.0
        fall = left if self.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
        return self.lr * min(rise, fall)


@dataclass(frozen=True, slots=True)
class StepDone:
    """A finished step. `step` counts finished steps, so it is 1 after the first.

    `laps` has the seconds of all steps so far: of "harvest" (making batches), "shuffle" (mixing them, where the source
    tells) and "update" (the steps themselves), and what else the source counted.
    """

    step: int
    n_tokens: int
    report: StepReport
    lr: float
    grad_norm: float
    laps: Laps


class UnheldError(Exception):
    """What a provisional report took for granted is not so; no weight has moved."""


def one_step(
    task: Trainable, optimiser: torch.optim.Optimizer, batch: Any, *, lr: float, clip_norm: float, step: int
) -> tuple[StepReport, float]:
    """A batch's report and the gradient norm before clipping, once weights have moved by it.

    Where the task can do without waiting for the device and the optimiser can refuse on it, the host asks once, in
    the end; a step that was refused for what it took for granted is taken again without doing so.

    Raises: NonFiniteError as `update` does.
    """
    if isinstance(task, ProvisionalTask) and isinstance(optimiser, ClippingOptimiser):
        report = task.provisional_losses(batch)
        try:
            return report, update(task, optimiser, report, lr=lr, clip_norm=clip_norm, step=step)
        except UnheldError:
            task.refused()
    report = task.losses(batch)
    return report, update(task, optimiser, report, lr=lr, clip_norm=clip_norm, step=step)


def update(
    task: Trainable, optimiser: torch.optim.Optimizer, report: StepReport, *, lr: float, clip_norm: float, step: int
) -> float:
    """Backward pass and optimiser step: the single mutator. Gives the gradient norm before clipping.

    Raises: NonFiniteError, naming the step and the terms, before any weight has moved; UnheldError likewise.
    """
    in_one_pass = isinstance(optimiser, ClippingOptimiser)
    if not in_one_pass:
        _check_held(report)
        _check_loss(report, step)
    optimiser.zero_grad(set_to_none=True)
    report.loss.backward()
    task.project_gradients()
    for group in optimiser.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    if in_one_pass:
        return _moved_in_one_pass(task, optimiser, report, clip_norm, step)
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    norm = _norm(task, [p.grad for p in parameters if p.grad is not None])
    if not math.isfinite(norm):
        raise NonFiniteError(f"step {step}: gradient norm is {norm} ({_terms(report)}); {_ADVICE}")
    if clip_norm > 0 and norm > clip_norm:
        torch._foreach_mul_([p.grad for p in parameters], clip_norm / (norm + 1e-6))
    optimiser.step()
    task.after_update(report, optimiser)
    return norm


def _check_held(report: StepReport) -> None:
    if report.holds is not None and not bool(report.holds):
        raise UnheldError


def _check_loss(report: StepReport, step: int) -> None:
    if not bool(torch.isfinite(report.loss)):
        raise NonFiniteError(f"step {step}: loss is {float(report.loss.detach())} ({_terms(report)}); {_ADVICE}")


def _moved_in_one_pass(task: Trainable, optimiser: Any, report: StepReport, clip_norm: float, step: int) -> float:
    """The device refuses by itself what is not finite, so that the host asks it once, when all is done."""
    finite = torch.isfinite(report.loss.detach())
    norm = float(optimiser.step_clipped(clip_norm, finite if report.holds is None else finite & report.holds))
    if not math.isfinite(norm):
        _check_held(report)
        _check_loss(report, step)
        raise NonFiniteError(f"step {step}: gradient norm is {norm} ({_terms(report)}); {_ADVICE}")
    task.after_update(report, optimiser)
    return norm


def _norm(task: Trainable, gradients: list[Tensor]) -> float:
    return task.gradient_norm() if isinstance(task, SpreadTask) else float(torch.nn.utils.get_total_norm(gradients))


_ADVICE = "no weight was changed; lower the learning rate or look at the input at this step"


def _terms(report: StepReport) -> str:
    return ", ".join(f"{name} {float(value):.4g}" for name, value in report.terms.items()) or "no terms"


def fit(
    task: Trainable,
    optimiser: torch.optim.Optimizer,
    batches: BatchSource,
    *,
    schedule: Schedule,
    n_steps: int,
    clip_norm: float = 1.0,
    start_step: int = 0,
    start_tokens: int = 0,
) -> Iterator[StepDone]:
    """Run steps start_step + 1 … n_steps and yield each when it is done."""
    n_tokens = start_tokens
    told = isinstance(batches, TimedSource)
    laps = batches.laps if isinstance(batches, TimedSource) else laps_on(_device_of(optimiser))
    for step in range(start_step, n_steps):
        # What whoever iterates does between two steps is not theirs.
        laps.begin()
        batch = next(batches)
        laps.end("shuffle" if told else "harvest")
        lr = schedule.at(step, n_steps)
        report, norm = one_step(task, optimiser, batch, lr=lr, clip_norm=clip_norm, step=step + 1)
        laps.end("update")
        n_tokens += report.n_tokens
        yield StepDone(step + 1, n_tokens, report, lr, norm, laps)


def _device_of(optimiser: torch.optim.Optimizer) -> torch.device:
    parameters = (p for group in optimiser.param_groups for p in group["params"])
    device: torch.device = next(parameters).device
    return device
