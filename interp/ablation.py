"""Ablation sweeps: how an outcome changes when a component is taken out.

Axes: n components, p prompts.
"""

from collections.abc import Callable

import numpy as np
import torch

from interp.component_values import Dictionaries
from interp.effects import EffectGrid, mean_effect
from interp.forward import last_outputs
from interp.interventions import Intervention
from interp.models import Model
from interp.prompts import Prompts
from interp.sweep_cells import Cells
from interp.sweep_passes import ROWS_PER_PASS, Judge, judged_by, row_chunks, swept


def ablation_sweep(
    model: Model,
    prompts: Prompts,
    cells: Cells,
    intervention: Intervention,
    *,
    outcome: Judge,
    dictionaries: Dictionaries | None = None,
    rows_per_pass: int = ROWS_PER_PASS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> EffectGrid:
    """The mean change of the outcome with each component of a grid replaced alone; intervals resample clusters.

    A component at all tokens (position None) is replaced at BOS and other special tokens too, as is usual where heads
    or MLPs are taken out whole, and the grid's method says so: what they hold there, often much, is gone as well.
    Features are not: what a dictionary says there is far off.

    An outcome made of reference outputs (`kl_from`, `turned_from`) gets those of the model left alone. `on_progress`
    hears how many ablated passes of how many are done.

    Raises: what interventions and components raise.
    """
    values = intervention.prepare(model, prompts, cells.components, dictionaries or {})
    changes, before, made = [], [], None
    for rows in row_chunks(len(prompts), rows_per_pass):
        chunk = prompts.take(rows)
        with torch.no_grad():
            outputs = last_outputs(model, chunk)
            made = judged_by(outcome, outputs)
            made.check(model)
            base = made(outputs, chunk).double().cpu()

        def tell(done: int, start: int = rows.start, n: int = len(chunk)) -> None:
            if on_progress:
                on_progress(start * len(cells.components) + done * n, len(prompts) * len(cells.components))

        ablated = swept(
            model, chunk, cells.components, values(rows), made,
            dictionaries=dictionaries or {}, rows_per_pass=rows_per_pass, tell=tell,
        )  # fmt: skip
        changes.append((ablated - base).numpy())
        before.append(base.numpy())
    found = mean_effect(np.concatenate(changes, axis=1), prompts.clusters.numpy(), seed=seed)
    assert made is not None, "prompts are never empty"
    return EffectGrid(
        cells.axes,
        found.value.reshape(cells.shape),
        None if found.interval is None else found.interval.reshape(2, *cells.shape),
        _method(intervention, cells),
        f"change of the {made.name}",
        made.units,
        len(prompts),
        {"unablated": float(np.concatenate(before).mean())},
    )


def _method(intervention: Intervention, cells: Cells) -> str:
    everywhere = any(part.position is None and part.kind != "feature" for part in cells.components)
    return f"{intervention.name}{' at every token, BOS too' if everywhere else ''}"
