"""What is written in the place of a component: nothing, a mean, another prompt's value, a point along a direction.

Axes: b prompts, t position, d width of the hook, w width of the part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.component_values import Dictionaries, Held, Values, features_of, flat, held_by, hooks_of, spoken, unflat
from interp.components import Component
from interp.errors import ConfigError, DataError, ShapeError
from interp.models import Model
from interp.prompts import Prompts

_ROWS_PER_PASS = 64


@runtime_checkable
class Intervention(Protocol):
    """A way to choose values. `prepare` does once what all prompts share; the values are then those of some rows."""

    @property
    def name(self) -> str: ...
    def prepare(
        self, model: Model, prompts: Prompts, components: Sequence[Component], dictionaries: Dictionaries
    ) -> Callable[[slice], Values]: ...


@dataclass(frozen=True, slots=True)
class Zero:
    """Nothing: zero ablation."""

    name: str = "zero ablation"

    def prepare(
        self,
        model: Model,
        prompts: Prompts,  # noqa: ARG002
        components: Sequence[Component],
        dictionaries: Dictionaries,  # noqa: ARG002
    ) -> Callable[[slice], Values]:
        acts = {name: torch.zeros(1, 1, model.hook(name).width) for name in hooks_of(components)}
        none = {hook: dict.fromkeys(features, torch.zeros(1, 1)) for hook, features in features_of(components).items()}
        return lambda _: Held(acts, none)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over the real tokens of reference prompts, BOS too, of all positions together or position by position.

    A feature's mean over all positions leaves out the tokens that frame a row, where features are not replaced.

    Raises (on use): DataError where a position of the prompts is in no reference prompt.
    """

    reference: Prompts
    by_position: bool = False

    @property
    def name(self) -> str:
        return f"mean ablation{', position by position' if self.by_position else ''}"

    def prepare(
        self, model: Model, prompts: Prompts, components: Sequence[Component], dictionaries: Dictionaries
    ) -> Callable[[slice], Values]:
        width = prompts.token_ids.shape[1]
        counts = self.reference.real.sum(0).float()
        if self.by_position and (counts.shape[0] < width or not bool((counts[:width] > 0).all())):
            reached = int((counts > 0).sum())
            raise DataError(f"got reference prompts of up to {reached} tokens for prompts of {width}; give longer ones")
        held = self._mean(
            (held_by(model, chunk, components, dictionaries) for chunk in _chunks(self.reference)),
            self.reference.real if self.by_position else spoken(model, self.reference),
        )
        if self.by_position:
            held = Held(
                {hook: acts[:, :width] for hook, acts in held.acts.items()},
                {h: {i: acts[:, :width] for i, acts in found.items()} for h, found in held.features.items()},
            )
        return lambda _: held

    def _mean(self, chunks: Iterator[Held], of_features: Bool[Tensor, "b t"]) -> Held:
        sums: dict[tuple[str, int | None], Tensor] = {}
        for rows, held in zip(_row_slices(len(self.reference)), chunks, strict=True):
            for key, acts in flat(held):
                counted = self.reference.real if key[1] is None else of_features
                n_tokens = (counted.sum(0) if self.by_position else counted.sum()).clamp(min=1)
                total = torch.einsum("btd,bt->td", acts.double().cpu(), counted[rows].double() / n_tokens)
                sums[key] = sums.get(key, torch.zeros(())) + (total if self.by_position else total.sum(0, keepdim=True))
        return unflat({key: total[None].float() for key, total in sums.items()})


@dataclass(frozen=True, slots=True)
class Resample:
    """What stands in another prompt, drawn for each prompt from reference prompts that are at least as long.

    Raises (on use): DataError for a prompt that no other is as long as.
    """

    reference: Prompts
    seed: int = 0

    @property
    def name(self) -> str:
        return "resample ablation"

    def prepare(
        self, model: Model, prompts: Prompts, components: Sequence[Component], dictionaries: Dictionaries
    ) -> Callable[[slice], Values]:
        source = self.reference.take(self.sources(prompts))
        return From(source, self.name).prepare(model, prompts, components, dictionaries)

    def sources(self, prompts: Prompts) -> Tensor:
        """The reference prompt that each prompt reads, never one of the same tokens."""
        width = min(prompts.token_ids.shape[1], self.reference.token_ids.shape[1])
        mine, theirs = prompts.real.sum(1), self.reference.real.sum(1)
        same = (prompts.token_ids[:, None, :width] == self.reference.token_ids[None, :, :width]).all(2)
        allowed = (theirs[None] >= mine[:, None]) & ~(same & (theirs[None] == mine[:, None]))
        if not bool(allowed.any(1).all()):
            row = int((~allowed.any(1)).nonzero()[0, 0])
            raise DataError(
                f"prompt {row} has {int(mine[row])} tokens and no other reference prompt is as long; "
                "give longer reference prompts, or take the mean"
            )
        return torch.multinomial(allowed.double(), 1, generator=torch.Generator().manual_seed(self.seed))[:, 0]


@dataclass(frozen=True, slots=True)
class From:
    """What stands in given prompts, row by row and token by token: patching.

    Raises (on use): ShapeError if the source does not reach as far as the prompts.
    """

    source: Prompts
    name: str = "patching"

    def prepare(
        self, model: Model, prompts: Prompts, components: Sequence[Component], dictionaries: Dictionaries
    ) -> Callable[[slice], Values]:
        width = prompts.token_ids.shape[1]
        if len(self.source) != len(prompts) or self.source.token_ids.shape[1] < width:
            got = tuple(self.source.token_ids.shape)
            raise ShapeError(
                f"got source prompts of shape {got}; expected {len(prompts)} rows of {width} tokens or more"
            )

        def values(rows: slice) -> Values:
            held = held_by(model, self.source.take(rows), components, dictionaries)
            return unflat({key: acts[:, :width] for key, acts in flat(held)})

        return values


@dataclass(frozen=True, slots=True)
class Directional:
    """The coordinate along a direction set to a value, all else as it stood; at zero the direction is projected out.

    Shapes: direction (w,), of the component's width; any length. Units: value in units of the unit direction.
    """

    direction: Float[Tensor, " w"]
    value: float = 0.0

    @property
    def name(self) -> str:
        return "direction projected out" if self.value == 0 else f"direction set to {self.value:g}"

    def prepare(
        self,
        model: Model,
        prompts: Prompts,  # noqa: ARG002
        components: Sequence[Component],
        dictionaries: Dictionaries,  # noqa: ARG002
    ) -> Callable[[slice], Values]:
        wrong = next((c for c in components if _width(model, c) != self.direction.shape[0]), None)
        if wrong is not None or not float(self.direction.norm()) > 0:
            raise ShapeError(
                f"got a direction of {self.direction.shape[0]} numbers, length {float(self.direction.norm()):.3g}; "
                f"expected one that is not zero, as wide as the component {wrong or components[0]}"
            )
        columns = {component: component.columns(model) for component in components}
        return lambda _: _Along(self.direction / self.direction.norm(), self.value, columns)


@dataclass(frozen=True, slots=True)
class _Along:
    unit: Tensor
    value: float
    columns: Mapping[Component, slice]

    def part(self, component: Component, x: Tensor) -> Tensor:
        unit, columns = self.unit.to(x), self.columns[component]
        own = x[:, :, columns]
        new = own + (self.value - own @ unit)[:, :, None] * unit
        return torch.cat([x[:, :, : columns.start], new, x[:, :, columns.stop :]], 2)

    def feature(self, component: Component) -> Tensor:
        raise ConfigError(f"got {component} with a direction; a feature has its own; intervene on the residual stream")


def _width(model: Model, component: Component) -> int:
    columns = component.columns(model)
    return int(columns.stop - columns.start)


def _row_slices(n: int) -> list[slice]:
    return [slice(start, start + _ROWS_PER_PASS) for start in range(0, n, _ROWS_PER_PASS)]


def _chunks(prompts: Prompts) -> Iterator[Prompts]:
    return (prompts.take(rows) for rows in _row_slices(len(prompts)))
