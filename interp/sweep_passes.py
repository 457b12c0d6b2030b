"""Many interventions in few forward passes: each block of rows holds all prompts with one component replaced.

Passes begin at the block of the components that they replace, with what stood there, and end in logits at each
prompt's last token alone.

Axes: n components, p prompts, t position, w width of a part.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.component_values import Dictionaries, Values, hooks_of, standing
from interp.components import Component
from interp.forward import Stem, last_outputs
from interp.hooks import Edit
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import Prompts
from interp.replacement import parts_written

ROWS_PER_PASS = 64
Judge = Outcome | Callable[[Float[Tensor, "p v"]], Outcome]
"""An outcome, or what makes one of reference outputs: `kl_from`, `turned_from`."""


def judged_by(judge: Judge, reference: Float[Tensor, "p v"]) -> Outcome:
    """The outcome, made of the reference outputs where it asks for them."""
    return judge if isinstance(judge, Outcome) else judge(reference)


def row_chunks(n_prompts: int, rows_per_pass: int) -> list[slice]:
    """Prompts that go through a pass together."""
    return [slice(start, min(start + rows_per_pass, n_prompts)) for start in range(0, n_prompts, rows_per_pass)]


@torch.no_grad()
def swept(
    model: Model,
    prompts: Prompts,
    components: Sequence[Component],
    values: Values,
    outcome: Outcome,
    *,
    dictionaries: Dictionaries,
    rows_per_pass: int = ROWS_PER_PASS,
    tell: Callable[[int], None] | None = None,
) -> Float[Tensor, "n p"]:
    """The outcome of every prompt with each component replaced alone. `tell` hears how many components are done.

    Raises: UnknownHookError; ConfigError for an index or place that is not there.
    """
    layers = _by_layer(model, components)
    stems = {layer: f"blocks.{layer}.hook_resid_pre" for layer in layers if layer is not None}
    base = standing(model, prompts, list(dict.fromkeys([*hooks_of(components), *stems.values()])))
    found = torch.empty(len(components), len(prompts), dtype=torch.float64)
    per_pass, done = max(1, rows_per_pass // len(prompts)), 0
    for layer, members in layers.items():
        for start in range(0, len(members), per_pass):
            chosen = members[start : start + per_pass]
            rows = prompts.repeat(len(chosen))
            stem = None if layer is None else Stem(layer, base[stems[layer]].repeat(len(chosen), 1, 1))
            edits = _edits(model, prompts, [components[i] for i in chosen], base, values, dictionaries)
            outputs = last_outputs(model, rows, edits, stem=stem)
            found[chosen] = outcome(outputs, rows).view(len(chosen), len(prompts)).double().cpu()
            done += len(chosen)
            if tell:
                tell(done)
    return found


def _by_layer(model: Model, components: Sequence[Component]) -> dict[int | None, list[int]]:
    layers: dict[int | None, list[int]] = defaultdict(list)
    for index, component in enumerate(components):
        layers[model.hook(component.hook).layer].append(index)
    return layers


def _edits(
    model: Model,
    prompts: Prompts,
    components: Sequence[Component],
    base: Mapping[str, Tensor],
    values: Values,
    dictionaries: Dictionaries,
) -> dict[str, Edit]:
    writes: dict[str, Edit] = {}
    for hook in hooks_of(components):
        blocks = [block for block, component in enumerate(components) if component.hook == hook]
        own = [components[block] for block in blocks]
        new = parts_written(model, prompts, own, base[hook], values, dictionaries.get(hook))
        writes[hook] = _Write(list(_spots(model, prompts, blocks, own, new)))
    return writes


@dataclass(frozen=True, slots=True)
class _Spot:
    """Columns of some rows, at one position of each (positions) or at all."""

    rows: Int[Tensor, " r"]
    positions: Int[Tensor, " r"] | None
    columns: slice
    new: Float[Tensor, "r w"] | Float[Tensor, "r t w"]


def _spots(
    model: Model,
    prompts: Prompts,
    blocks: Sequence[int],
    components: Sequence[Component],
    new: Iterator[Float[Tensor, "p t w"]],
) -> Iterator[_Spot]:
    index = torch.arange(len(prompts))
    together: dict[tuple[int, int], list[_Spot]] = defaultdict(list)
    for block, component, part in zip(blocks, components, new, strict=True):
        rows, columns = block * len(prompts) + index, component.columns(model)
        positions = prompts.positions(component.position)
        if positions is None:
            yield _Spot(rows, None, columns, part)
        else:
            spot = _Spot(rows, positions, columns, part[index, positions])
            together[columns.start, columns.stop].append(spot)
    for spots in together.values():
        places = torch.cat([spot.positions for spot in spots if spot.positions is not None])
        rows, parts = torch.cat([spot.rows for spot in spots]), torch.cat([spot.new for spot in spots])
        yield _Spot(rows, places, spots[0].columns, parts)


@dataclass(frozen=True, slots=True)
class _Write:
    """An edit that writes into its own copy."""

    spots: list[_Spot]

    def __call__(self, x: Tensor) -> Tensor:
        for spot in self.spots:
            if spot.positions is None:
                x[spot.rows, :, spot.columns] = spot.new.to(x)
            else:
                x[spot.rows, spot.positions, spot.columns] = spot.new.to(x)
        return x
