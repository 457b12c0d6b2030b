"""Attribution by gradients averaged along a path between two runs, and what it leaves unexplained at a cut.

Axes: b pairs, t position, d width of a hook.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.attribution import Dictionaries, Differences, as_float64, estimated_effects
from interp.components import Component
from interp.effects import EffectGrid
from interp.errors import ConfigError
from interp.forward import gradients_at
from interp.hooks import Edit
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import PromptPairs
from interp.two_runs import Direction, Seen, TwoRuns, seen

INPUT = "blocks.0.hook_resid_pre"
"""The input cut: everything that tells two prompts of one length apart passes here."""
Path = Literal["input", "activation"]
"""Input: the embeddings go from one run's to the other's (EAP-IG). Activation: each hook's own activations do."""
PATHS: tuple[Path, ...] = get_args(Path)


@dataclass(frozen=True, slots=True)
class AlongPath:
    """An estimator: gradients averaged over `n_steps` places of a path, at the middle of equal pieces."""

    path: Path
    n_steps: int

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ConfigError(f"path: got {self.path!r}; expected {' or '.join(PATHS)}")
        if self.n_steps < 1:
            raise ConfigError(f"n_steps: got {self.n_steps}; expected at least 1")

    def __call__(self, model: Model, runs: TwoRuns, hooks: Sequence[str], outcome: Outcome) -> Differences:
        shown = list(dict.fromkeys([INPUT, *hooks]))
        before = seen(model, runs.changed, shown, outcome, runs.judged)
        after = seen(model, runs.source, shown, outcome, runs.judged)
        gradient: dict[str, Tensor] = {}
        for moved, read in [(INPUT, list(hooks))] if self.path == "input" else [(hook, [hook]) for hook in hooks]:
            gradient |= self._mean_gradients(model, runs, moved, read, outcome, before, after)
        return Differences(before.acts, after.acts, gradient, before.outcome, after.outcome)

    def _mean_gradients(
        self,
        model: Model,
        runs: TwoRuns,
        moved: str,
        read: Sequence[str],
        outcome: Outcome,
        before: Seen,
        after: Seen,
    ) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for step in steps(self.n_steps):
            edits = {moved: between(before.acts[moved], after.acts[moved], step)}
            found = gradients_at(model, runs.changed, read, lambda outputs: outcome(outputs, runs.judged), edits)
            total = {hook: total.get(hook, 0) + found.grads[hook] / self.n_steps for hook in read}
        return total


def steps(n_steps: int) -> list[float]:
    """The middles of equal pieces of the way from 0 to 1: exact for gradients that change evenly."""
    return [(index + 0.5) / n_steps for index in range(n_steps)]


def between(before: Float[Tensor, "b t d"], after: Float[Tensor, "b t d"], share: float) -> Edit:
    """An edit that puts a point between two activations; gradients pass to what stood there."""
    point = torch.lerp(before, after, share)
    return lambda x: x + (point - x).detach()


def integrated_gradients(
    model: Model,
    pairs: PromptPairs,
    components: Sequence[Component],
    outcome: Outcome,
    *,
    direction: Direction,
    path: Path = "input",
    n_steps: int = 10,
    positions: Sequence[int | str | None] = (None,),
    dictionaries: Dictionaries | None = None,
    batch_size: int | None = None,
) -> EffectGrid:
    """Attribution patching with the gradient averaged along a path from the changed run to the other one.

    Along the input path one backward pass a step serves all hooks; along activations each hook needs its own.

    Units: share of the difference between the two runs, as a ratio of means over pairs.
    Raises: ConfigError; UnknownHookError.
    Source: Sundararajan et al. 2017; input path: Hanna et al. 2024 (EAP-IG, arXiv 2403.17806); activation path: Marks
    et al. 2024 (arXiv 2403.19647).
    """
    return estimated_effects(
        model,
        pairs,
        components,
        outcome,
        AlongPath(path, n_steps),
        method=f"integrated gradients along the {path}, {n_steps} steps, {direction}",
        direction=direction,
        positions=positions,
        dictionaries=dictionaries or {},
        batch_size=batch_size,
    )


@dataclass(frozen=True, slots=True)
class Completeness:
    """What all attributions at one cut add up to, beside the difference between the runs that they stand for.

    Units: of the outcome, mean over pairs. missing: median over pairs of |attributed - true| / mean |true|.
    """

    hook: str
    path: Path
    n_steps: int
    attributed: float
    true: float
    missing: float


def completeness(
    model: Model,
    pairs: PromptPairs,
    hook: str,
    outcome: Outcome,
    *,
    direction: Direction,
    path: Path = "input",
    n_steps: int = 30,
) -> Completeness:
    """Whether the attributions of a whole cut through the model add up to the difference between the runs.

    They do at the input for the input's path, and at any cut that everything passes for that cut's own path; along the
    input they need not at a cut further up.

    Raises: ConfigError; UnknownHookError.
    """
    runs = TwoRuns.of(pairs, direction)
    found = AlongPath(path, n_steps)(model, runs, [hook], outcome)
    real = runs.changed.real.to(found.gradient[hook].device)[:, :, None]
    attributed = as_float64((found.change(hook) * found.gradient[hook] * real).double().sum((1, 2)))
    true = as_float64(found.source) - as_float64(found.changed)
    missing = float(np.median(np.abs(attributed - true)) / np.abs(true).mean())
    return Completeness(hook, path, n_steps, float(attributed.mean()), float(true.mean()), missing)
