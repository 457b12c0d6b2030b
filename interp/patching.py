"""Activation patching: what one prompt's activations do in another's pass.

Denoising puts clean activations into the corrupt pass and asks what suffices to bring the clean outcome back; noising
puts corrupt ones into the clean pass and asks what is needed for it. They are two measurements, never mixed.

Axes: n components, p prompt pairs, v vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from interp.component_values import Dictionaries
from interp.effects import EffectGrid, near_zero, ratio_effect
from interp.errors import DataError
from interp.forward import last_outputs
from interp.interventions import From
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE, Outcome
from interp.prompts import PromptPairs, Prompts
from interp.sweep_cells import Cells
from interp.sweep_passes import ROWS_PER_PASS, Judge, judged_by, row_chunks, swept
from interp.two_runs import Direction, TwoRuns

UNITS = "share of the clean-corrupt difference"


def ends_of(pairs: PromptPairs, direction: Direction) -> tuple[Prompts, Prompts]:
    """The pass that is patched and the one that the new activations come from, both asked for the clean answers.

    Raises: ConfigError for another direction.
    """
    runs = TwoRuns.of(pairs, direction)
    return _asked_for(runs.changed, runs.judged), _asked_for(runs.source, runs.judged)


def _asked_for(side: Prompts, clean: Prompts) -> Prompts:
    return Prompts(
        side.token_ids, side.real, side.last, clean.answers, clean.foils, clean.clusters, side.places, side.texts
    )


def patch_sweep(
    model: Model,
    pairs: PromptPairs,
    cells: Cells,
    *,
    direction: Direction = "denoising",
    outcome: Judge = LOGIT_DIFFERENCE,
    dictionaries: Dictionaries | None = None,
    rows_per_pass: int = ROWS_PER_PASS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> EffectGrid:
    """The effect of patching each component of a grid: (patched - base) / (source - base), a ratio of means over pairs.

    1 is the whole of what tells the source from the base, 0 nothing of it. The outcome is that of the clean prompts'
    answers in both directions; one made of reference outputs gets the clean ones. Intervals resample clusters of pairs.
    "resid_pre, layer L" of a grid of `block_cells` is what block L reads: the resid_post of layer L - 1. A component at
    all tokens is patched at BOS too, where clean and corrupt passes of a causal model agree.
    `on_progress` hears how many patched passes of how many are done.

    Raises: DataError if clean and corrupt do not differ in the outcome; what components raise.
    """
    (changed, other), parts = ends_of(pairs, direction), []
    given = From(other).prepare(model, changed, cells.components, dictionaries or {})
    for rows in row_chunks(len(pairs), rows_per_pass):
        base, source = changed.take(rows), other.take(rows)
        unpatched = unpatched_outcomes(model, base, source, direction, outcome)

        def tell(done: int, start: int = rows.start, n: int = len(base)) -> None:
            if on_progress:
                on_progress(start * len(cells.components) + done * n, len(pairs) * len(cells.components))

        patched = swept(
            model, base, cells.components, given(rows), unpatched.outcome,
            dictionaries=dictionaries or {}, rows_per_pass=rows_per_pass, tell=tell,
        )  # fmt: skip
        parts.append((unpatched, patched))
    return effect_of_patches(
        torch.cat([patched for _, patched in parts], dim=1).numpy(), joined([unpatched for unpatched, _ in parts]),
        cells=cells, clusters=pairs.clean.clusters.numpy(), method=f"activation patching, {direction}",
        direction=direction, seed=seed,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unpatched:
    """The outcome of every pair on both sides, without intervention."""

    base: Float[ndarray, " p"]
    source: Float[ndarray, " p"]
    outcome: Outcome


@torch.no_grad()
def unpatched_outcomes(model: Model, base: Prompts, source: Prompts, direction: Direction, judge: Judge) -> Unpatched:
    """Outcomes of the two sides, and the outcome itself where it is made of the clean outputs."""
    outputs = {"base": last_outputs(model, base), "source": last_outputs(model, source)}
    outcome = judged_by(judge, outputs["source" if direction == "denoising" else "base"])
    outcome.check(model)
    values = {name: outcome(found, base).double().cpu().numpy() for name, found in outputs.items()}
    return Unpatched(values["base"], values["source"], outcome)


def joined(parts: Sequence[Unpatched]) -> Unpatched:
    """Outcomes of several chunks of pairs as one."""
    base, source = (np.concatenate([getattr(part, side) for part in parts]) for side in ("base", "source"))
    return Unpatched(base, source, parts[0].outcome)


def effect_of_patches(
    patched: Float[ndarray, "n p"],
    unpatched: Unpatched,
    *,
    cells: Cells,
    clusters: Int[ndarray, " p"],
    method: str,
    direction: Direction,
    seed: int = 0,
) -> EffectGrid:
    """A grid of ratios of means.

    Raises: DataError if the mean difference of the two sides is zero or not finite.
    """
    between = unpatched.source - unpatched.base
    outcome = unpatched.outcome
    if not np.isfinite(between).all() or between.mean() == 0:
        raise DataError(
            f"the mean {outcome.name} differs by {between.mean():g} between clean and corrupt prompts; expected a "
            "difference to take shares of; choose prompts that the model tells apart, or another outcome"
        )
    found = ratio_effect(patched - unpatched.base, between, clusters, seed=seed)
    sides = ("corrupt", "clean") if direction == "denoising" else ("clean", "corrupt")
    units = f" ({outcome.units})" if outcome.units else ""
    return EffectGrid(
        cells.axes,
        found.value.reshape(cells.shape),
        None if found.interval is None else found.interval.reshape(2, *cells.shape),
        method,
        f"{outcome.name}{units}",
        UNITS,
        len(between),
        dict(zip(sides, (float(unpatched.base.mean()), float(unpatched.source.mean())), strict=True)),
        near_zero(between),
    )
