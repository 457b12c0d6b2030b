"""Path patching: the effect that one component has on the output through another alone.

The sender is patched while everything between is held at what it was in the base pass; what then reaches the receiver,
through the residual stream and no other component, is put into a second pass, in which everything else runs free. With
the output as receiver one pass is enough: the direct effect.

Axes: s senders, r receivers, p prompt pairs, t position, d width of a hook.

Source: Wang et al. 2022 (arXiv 2211.00593), section 3.1; Goldowsky-Dill et al. 2023 (arXiv 2304.05969).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.component_values import Dictionaries, Held, Values, hooks_of, standing
from interp.components import Component
from interp.effects import EffectGrid, axis_of
from interp.errors import ConfigError
from interp.forward import last_outputs
from interp.hooks import Edit, edit
from interp.interventions import From
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE, Outcome
from interp.patching import effect_of_patches, ends_of, joined, unpatched_outcomes
from interp.prompts import PromptPairs, Prompts
from interp.replacement import joint_edits
from interp.sweep_cells import Cells
from interp.sweep_passes import ROWS_PER_PASS, Judge, row_chunks, swept
from interp.two_runs import Direction

OUTPUT = "output"


def path_patching(
    model: Model,
    pairs: PromptPairs,
    senders: Sequence[Component],
    receivers: Sequence[Component | None],
    *,
    direction: Direction = "denoising",
    outcome: Judge = LOGIT_DIFFERENCE,
    dictionaries: Dictionaries | None = None,
    rows_per_pass: int = ROWS_PER_PASS,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> EffectGrid:
    """Effect of each sender through each receiver alone (None: directly on the output), as `patch_sweep` measures it.

    A path that leads downwards has no effect: 0.

    Raises: ConfigError for a feature as receiver; DataError if clean and corrupt do not differ in the outcome.
    """
    wrong = next((c for c in receivers if c is not None and c.kind == "feature"), None)
    if wrong is not None or not senders or not receivers:
        raise ConfigError(f"receivers: got {wrong or 'none'}; expected heads, neurons or whole hooks, or None (output)")
    (changed, other), known, parts = ends_of(pairs, direction), dictionaries or {}, []
    chunks = list(row_chunks(len(pairs), rows_per_pass))
    for index, rows in enumerate(chunks):
        base, source = changed.take(rows), other.take(rows)
        unpatched = unpatched_outcomes(model, base, source, direction, outcome)
        frozen = standing(model, base, writers(model))
        patched = []
        for done, sender in enumerate(senders, start=1 + index * len(senders)):
            patched.append(
                _through(model, base, source, sender, receivers, frozen, unpatched.outcome, known, rows_per_pass)
            )
            if on_progress is not None:
                on_progress(done, len(chunks) * len(senders))
        parts.append((unpatched, torch.stack(patched)))
    names = [OUTPUT if receiver is None else str(receiver) for receiver in receivers]
    cells = Cells(
        (axis_of("sender", senders), axis_of("receiver", names)),
        tuple(sender for sender in senders for _ in receivers),
    )
    return effect_of_patches(
        torch.cat([patched for _, patched in parts], dim=2).flatten(0, 1).numpy(), joined([u for u, _ in parts]),
        cells=cells, clusters=pairs.clean.clusters.numpy(), method=f"path patching, {direction}",
        direction=direction, seed=seed,
    )  # fmt: skip


def writers(model: Model) -> list[str]:
    """The hooks at which blocks add to the residual stream."""
    return [f"blocks.{layer}.hook_{kind}_out" for layer in range(model.n_layers) for kind in ("attn", "mlp")]


@torch.no_grad()
def _through(
    model: Model,
    base: Prompts,
    source: Prompts,
    sender: Component,
    receivers: Sequence[Component | None],
    frozen: Mapping[str, Tensor],
    outcome: Outcome,
    dictionaries: Dictionaries,
    rows_per_pass: int,
) -> Float[Tensor, "r p"]:
    """The outcome through each receiver: one pass with the others held, and then one row block for each receiver."""
    wanted = [receiver for receiver in receivers if receiver is not None]
    reached, outputs = _reached(model, base, source, sender, hooks_of(wanted), frozen, dictionaries)
    values: Values = Held(reached, {})
    through = (
        swept(model, base, wanted, values, outcome, dictionaries={}, rows_per_pass=rows_per_pass)
        if wanted
        else torch.empty(0, len(base), dtype=torch.float64)
    )
    direct = outcome(outputs, base).double().cpu()
    rest = iter(through)
    return torch.stack([direct if receiver is None else next(rest) for receiver in receivers])


def _reached(
    model: Model,
    base: Prompts,
    source: Prompts,
    sender: Component,
    receivers: Sequence[str],
    frozen: Mapping[str, Tensor],
    dictionaries: Dictionaries,
) -> tuple[dict[str, Float[Tensor, "p t d"]], Float[Tensor, "p v"]]:
    """What stands at the receivers' hooks, and the outputs, with the sender patched and every writer above it held.

    A writer that is a receiver is seen before it is held.
    """
    seen: dict[str, Tensor] = {}
    held = {name: _holding(seen, name, frozen[name]) for name in _after(model, sender)}
    watched = {name: _seeing(seen, name) for name in receivers if name not in held}
    patch = joint_edits(model, base, [sender], From(source), dictionaries=dictionaries)
    with edit(model, patch), edit(model, watched):
        outputs = last_outputs(model, base, held)
    return seen, outputs


def _after(model: Model, sender: Component) -> list[str]:
    """Writers that the sender can reach, without the one that it is a part of."""
    order = list(model.hooks)
    point = model.hook(sender.hook)
    own = {"attn": f"blocks.{point.layer}.hook_attn_out", "mlp": f"blocks.{point.layer}.hook_mlp_out"}
    part_of = next((hook for part, hook in own.items() if f".{part}." in sender.hook), None)
    above = order[order.index(sender.hook) + 1 :]
    return [name for name in writers(model) if name in above and name != part_of]


def _seeing(seen: dict[str, Tensor], name: str) -> Edit:
    def visit(x: Tensor) -> Tensor:
        seen[name] = x
        return x

    return visit


def _holding(seen: dict[str, Tensor], name: str, value: Tensor) -> Edit:
    def visit(x: Tensor) -> Tensor:
        seen[name] = x
        return value

    return visit
