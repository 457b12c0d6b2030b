"""The two directions of a causal question about a pair of runs, never mixed, and what each run leaves behind.

Axes: b pairs, t position, d width of a hook, v vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.forward import last_outputs
from interp.hooks import Edit
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import PromptPairs, Prompts

Direction = Literal["denoising", "noising"]
"""Denoising: clean activations into the corrupt run. Noising: corrupt activations into the clean run."""
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True, slots=True)
class TwoRuns:
    """The run that is changed, the one that the new activations come from, and whose answers both are judged by."""

    changed: Prompts
    source: Prompts
    judged: Prompts

    @staticmethod
    def of(pairs: PromptPairs, direction: Direction) -> "TwoRuns":
        """The pair's two runs in their roles; the clean prompts' answers are asked for in both.

        Raises: ConfigError for another direction.
        """
        if direction not in DIRECTIONS:
            raise ConfigError(f"direction: got {direction!r}; expected {' or '.join(DIRECTIONS)}")
        if direction == "denoising":
            return TwoRuns(pairs.corrupt, pairs.clean, pairs.clean)
        return TwoRuns(pairs.clean, pairs.corrupt, pairs.clean)

    def __len__(self) -> int:
        return len(self.changed)

    def take(self, rows: slice) -> "TwoRuns":
        """The chosen pairs."""
        return TwoRuns(self.changed.take(rows), self.source.take(rows), self.judged.take(rows))

    def batches(self, size: int | None) -> list["TwoRuns"]:
        """The same in pieces of at most `size` pairs; None leaves them together."""
        if size is None or size >= len(self):
            return [self]
        return [self.take(slice(at, at + size)) for at in range(0, len(self), size)]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass that nobody changed gives: its outcome for each prompt, its activations.

    Shapes: outcome (b,); acts[hook] (b, t, d_hook).
    """

    outcome: Float[Tensor, " b"]
    acts: dict[str, Float[Tensor, "b t _"]]


@torch.no_grad()
def seen(model: Model, prompts: Prompts, hooks: Sequence[str], outcome: Outcome, judged: Prompts) -> Seen:
    """One pass to the end, judged by the answers of `judged`.

    Raises: UnknownHookError; ConfigError for an outcome that the model cannot be judged by.
    """
    outcome.check(model)
    acts: dict[str, Tensor] = {}
    outputs = last_outputs(model, prompts, {hook: _kept_in(acts, hook) for hook in hooks})
    return Seen(outcome(outputs, judged), acts)


def _kept_in(acts: dict[str, Tensor], hook: str) -> Edit:
    def keep(x: Tensor) -> Tensor:
        # A copy: what goes on through the model may be written into further down.
        acts[hook] = x.clone()
        return x

    return keep
