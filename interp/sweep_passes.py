"""Many interventions in few forward passes: each block of rows holds all prompts with one component replaced.

Passes begin at the block of the components that they replace, with what stood there; of causal models, at the first
token that is replaced. They end in logits at each prompt's last token alone.

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
from interp.suffix_passes import Prefixes, suffix_outputs

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
    sweep = _Sweep.of(model, prompts, components, values, outcome, dictionaries)
    found = torch.empty(len(components), len(prompts), dtype=torch.float64)
    per_pass, done = max(1, rows_per_pass // len(prompts)), 0
    for layer, members in sweep.by_layer().items():
        for first in range(0, len(members), per_pass):
            chosen = members[first : first + per_pass]
            found[chosen] = sweep.outcomes(layer, chosen)
            done += len(chosen)
            if tell:
                tell(done)
    return found


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What all passes of a sweep share: the prompts' own activations, keys and values, and outcomes."""

    model: Model
    prompts: Prompts
    components: Sequence[Component]
    values: Values
    outcome: Outcome
    dictionaries: Dictionaries
    base: Mapping[str, Float[Tensor, "p t _"]]
    prefixes: Prefixes | None
    unedited: Float[Tensor, " p"]

    @staticmethod
    def of(
        model: Model,
        prompts: Prompts,
        components: Sequence[Component],
        values: Values,
        outcome: Outcome,
        dictionaries: Dictionaries,
    ) -> "_Sweep":
        layers = {model.hook(component.hook).layer for component in components}
        stems = [_stem_hook(layer) for layer in layers if layer is not None]
        base = standing(model, prompts, list(dict.fromkeys([*hooks_of(components), *stems])))
        apart = any(component.position is not None for component in components)
        prefixes = Prefixes.of(model, prompts) if apart else None
        unedited = outcome(last_outputs(model, prompts), prompts).double().cpu()
        return _Sweep(model, prompts, components, values, outcome, dictionaries, base, prefixes, unedited)

    def by_layer(self) -> dict[int | None, list[int]]:
        """Components of each block by number, those that reach furthest to the left first."""
        layers: dict[int | None, list[int]] = defaultdict(list)
        for index in sorted(range(len(self.components)), key=lambda index: self.start([index])):
            layers[self.model.hook(self.components[index].hook).layer].append(index)
        return layers

    def start(self, chosen: Sequence[int]) -> int:
        """The first token that any of the components stands at, in any prompt."""
        places = [self.prompts.positions(self.components[index].position) for index in chosen]
        return min(0 if place is None else int(place.min()) for place in places)

    def outcomes(self, layer: int | None, chosen: Sequence[int]) -> Float[Tensor, "m p"]:
        """One pass, over the whole rows or the ends of them."""
        start = 0 if self.prefixes is None else self.start(chosen)
        rows = self.prompts.repeat(len(chosen))
        stem = None
        if layer is not None:
            stem = Stem(layer, self.base[_stem_hook(layer)][:, start:].repeat(len(chosen), 1, 1))
        edits = self._edits([self.components[index] for index in chosen], start)
        if start == 0 or self.prefixes is None:
            outputs = last_outputs(self.model, rows, edits, stem=stem)
        else:
            outputs = suffix_outputs(self.model, rows, start, self.prefixes, edits, stem)
        found = self.outcome(outputs, rows).view(len(chosen), len(self.prompts)).double().cpu()
        # What is replaced after a prompt's last token is padding.
        return torch.where(self.prompts.last < start, self.unedited, found)

    def _edits(self, components: Sequence[Component], start: int) -> dict[str, Edit]:
        writes: dict[str, Edit] = {}
        for hook in hooks_of(components):
            blocks = [block for block, component in enumerate(components) if component.hook == hook]
            own = [components[block] for block in blocks]
            new = parts_written(
                self.model, self.prompts, own, self.base[hook], self.values, self.dictionaries.get(hook)
            )
            writes[hook] = _Write(list(_spots(self.model, self.prompts, blocks, own, new)), start)
        return writes


def _stem_hook(layer: int) -> str:
    return f"blocks.{layer}.hook_resid_pre"


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
    """An edit, of the tokens from `start` on, that writes into its own copy."""

    spots: list[_Spot]
    start: int

    def __call__(self, x: Tensor) -> Tensor:
        for spot in self.spots:
            if spot.positions is None:
                x[spot.rows, :, spot.columns] = spot.new.to(x)
            else:
                x[spot.rows, spot.positions - self.start, spot.columns] = spot.new.to(x)
        return x
