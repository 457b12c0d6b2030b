"""What a sweep goes through: components over the axes of its grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

from interp.components import Component, Kind, block_components
from interp.effects import Axis, axis_of
from interp.errors import ConfigError
from interp.models import Model
from interp.prompts import PromptPairs, Prompts

WHOLE: tuple[Kind, ...] = ("residual", "attention", "mlp")
"""Kinds of which each block has one."""
_LABELS: dict[Kind, str] = {"residual": "resid_pre"}
"""Where a kind's name leaves open which of a block's hooks it is."""


@dataclass(frozen=True, slots=True)
class Places:
    """Positions that a sweep goes through, with their labels: numbers, named places, or None for all tokens at once."""

    positions: tuple[int | str | None, ...] = (None,)
    labels: tuple[str, ...] = ("all",)

    def __post_init__(self) -> None:
        if not self.positions or len(self.positions) != len(self.labels):
            raise ConfigError(f"got {len(self.positions)} positions and {len(self.labels)} labels; expected one each")


ALL_TOKENS = Places()


@dataclass(frozen=True, slots=True)
class Cells:
    """Components in the order of the axes, the last axis fastest."""

    axes: tuple[Axis, ...]
    components: tuple[Component, ...]
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(len(axis) for axis in self.axes))
        if prod(self.shape) != len(self.components) or not self.components:
            raise ConfigError(f"got {len(self.components)} components for a grid of shape {self.shape}")


def every_position(model: Model, prompts: Prompts | PromptPairs) -> Places:
    """Each token position, labelled by its number and token: both where clean and corrupt differ, … among prompts."""
    sides = [prompts.clean, prompts.corrupt] if isinstance(prompts, PromptPairs) else [prompts]
    width = sides[0].token_ids.shape[1]
    labels = [
        f"{at} {_token_label(model, [side.token_ids[side.real[:, at], at] for side in sides])}" for at in range(width)
    ]
    return Places(tuple(range(width)), tuple(labels))


def _token_label(model: Model, tokens: Sequence[Tensor]) -> str:
    found = [side.unique().tolist() for side in tokens]
    if any(len(side) != 1 for side in found):
        return "…"
    words = [str(model.tokenizer.decode([side[0]])).replace(" ", "␣").replace("\n", "↵") for side in found]
    return "/".join(dict.fromkeys(words))


def block_cells(
    model: Model, kinds: Sequence[Kind] = WHOLE, *, layers: Sequence[int] | None = None, places: Places = ALL_TOKENS
) -> Cells:
    """Residual stream, attention and MLP by layer and position; axes of one place are left out.

    The residual stream of layer L is that before block L (its place on the axis is resid_pre), the resid_post of layer
    L - 1. What the last block puts out has no cell: at a prompt's last token it is the whole of the outcome, elsewhere
    nothing. Other hooks: `listed_cells([Component("residual", "blocks.3.hook_resid_post")])`.

    Raises: ConfigError for a kind of which a block has many.
    """
    wrong = [kind for kind in kinds if kind not in WHOLE]
    if wrong or not kinds:
        raise ConfigError(f"kinds: got {', '.join(wrong) or 'none'}; expected some of {', '.join(WHOLE)}")
    chosen = list(range(model.n_layers) if layers is None else layers)
    components = [
        component.at(position)
        for kind in kinds
        for component in block_components(model, kind, layers=chosen)
        for position in places.positions
    ]
    named = axis_of("component", [_LABELS.get(kind, kind) for kind in kinds])
    return _cells((named, axis_of("layer", chosen), Axis("position", places.labels)), components)


def part_cells(model: Model, kind: Kind, *, layers: Sequence[int] | None = None, places: Places = ALL_TOKENS) -> Cells:
    """Heads or neurons by layer, number and position.

    Raises: ConfigError for a kind that has no parts.
    """
    if kind not in ("head", "neuron"):
        raise ConfigError(f"kind: got {kind!r}; expected head or neuron")
    chosen = list(range(model.n_layers) if layers is None else layers)
    parts = block_components(model, kind, layers=chosen)
    components = [component.at(position) for component in parts for position in places.positions]
    numbers = axis_of(kind, range(len(parts) // len(chosen)))
    return _cells((axis_of("layer", chosen), numbers, Axis("position", places.labels)), components)


def feature_cells(hook: str, features: Sequence[int], *, places: Places = ALL_TOKENS) -> Cells:
    """Features of the dictionary at a hook, or codes of a codebook, by number and position."""
    components = [
        Component("feature", hook, feature, position) for feature in features for position in places.positions
    ]
    return _cells((axis_of("feature", features), Axis("position", places.labels)), components)


def listed_cells(components: Sequence[Component]) -> Cells:
    """Components in a row, named as they print."""
    return Cells((axis_of("component", components),), tuple(components))


def _cells(axes: tuple[Axis, ...], components: Sequence[Component]) -> Cells:
    kept = tuple(axis for axis in axes if len(axis) > 1)
    return Cells(kept or axes[:1], tuple(components))
