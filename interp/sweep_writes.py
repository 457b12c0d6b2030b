"""Edits of passes in which each block of rows has its own component replaced.

Axes: r rows, p prompts, t position, w width of a part.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.components import Component
from interp.models import Model
from interp.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Spot:
    """Columns of some rows, at one position of each (positions) or at all."""

    rows: Int[Tensor, " r"]
    positions: Int[Tensor, " r"] | None
    columns: slice
    new: Float[Tensor, "r w"] | Float[Tensor, "r t w"]


def spots_of(
    model: Model,
    prompts: Prompts,
    blocks: Sequence[int],
    components: Sequence[Component],
    new: Iterable[Float[Tensor, "p t w"]],
) -> Iterator[Spot]:
    """What is written for components of one hook, each in its block of rows; positions of one part together."""
    index = torch.arange(len(prompts))
    together: dict[tuple[int, int], list[Spot]] = defaultdict(list)
    for block, component, part in zip(blocks, components, new, strict=True):
        rows, columns = block * len(prompts) + index, component.columns(model)
        positions = prompts.positions(component.position)
        if positions is None:
            yield Spot(rows, None, columns, part)
        else:
            spot = Spot(rows, positions, columns, part[index, positions])
            together[columns.start, columns.stop].append(spot)
    for spots in together.values():
        places = torch.cat([spot.positions for spot in spots if spot.positions is not None])
        rows, parts = torch.cat([spot.rows for spot in spots]), torch.cat([spot.new for spot in spots])
        yield Spot(rows, places, spots[0].columns, parts)


@dataclass(frozen=True, slots=True)
class Write:
    """An edit that writes into its own copy. It sees the tokens from `start` on, or each row's own one (None)."""

    spots: list[Spot]
    start: int | None = 0

    def __call__(self, x: Tensor) -> Tensor:
        for spot in self.spots:
            if spot.positions is None:
                x[spot.rows, :, spot.columns] = spot.new.to(x)
            else:
                at = 0 if self.start is None else spot.positions - self.start
                x[spot.rows, at, spot.columns] = spot.new.to(x)
        return x
