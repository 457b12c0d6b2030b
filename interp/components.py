"""What is intervened on: a part of a model at a hook, the same notion for every analysis.

Axes: b rows of prompts, t position, d width of the hook, w width of the part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ConfigError, UnknownHookError
from interp.models import Model

Kind = Literal["residual", "attention", "mlp", "head", "neuron", "feature"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SUFFIXES: dict[Kind, str] = {
    "residual": "hook_resid_pre",
    "attention": "hook_attn_out",
    "mlp": "hook_mlp_out",
    "head": "attn.hook_z",
    "neuron": "mlp.hook_post",
}


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a model that can be read, replaced or taken out.

    index: the head, neuron, or feature of a dictionary that stands at the hook; None where the kind is the whole hook.
    position: token of the row counted from its start, the name of a place in the prompts ("last"), or None for all.
    """

    kind: Kind
    hook: str
    index: int | None = None
    position: int | str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind: got {self.kind!r}; expected one of {', '.join(KINDS)}")
        indexed = self.kind in ("head", "neuron", "feature")
        if indexed != (self.index is not None):
            raise ConfigError(
                f"got a {self.kind} component with index {self.index}; "
                f"expected {'a number' if indexed else 'none: it is the whole hook'}"
            )

    def __str__(self) -> str:
        at = "" if self.position is None else f"@{self.position}"
        return f"{self.hook}{'' if self.index is None else f'.{self.index}'}{at}"

    def columns(self, model: Model) -> slice:
        """Columns of the hook that the part takes; a feature's are all of them.

        Raises: UnknownHookError if the model lacks the hook; ConfigError for an index out of range.
        """
        point = model.hook(self.hook)
        if self.index is None or self.kind == "feature":
            return slice(0, point.width)
        if self.kind == "head" and point.head_shape is None:
            raise ConfigError(f"{self.hook}: got a head of a hook that has no heads; expected one such as attn.hook_z")
        n_parts, width = point.head_shape if self.kind == "head" and point.head_shape else (point.width, 1)
        if not 0 <= self.index < n_parts:
            raise ConfigError(f"{self.hook}: got {self.kind} {self.index}; expected 0 to {n_parts - 1}")
        return slice(self.index * width, (self.index + 1) * width)

    def at(self, position: int | str | None) -> "Component":
        """The same part at another position."""
        return Component(self.kind, self.hook, self.index, position)


def parse_component(model: Model, text: str) -> Component:
    """A part as `str(Component)` writes it: a hook, a head or neuron of it behind a dot, a place behind an at sign.

    Raises: ConfigError for an index out of range; UnknownHookError if the model lacks the hook.
    """
    name, _, place = text.strip().partition("@")
    position = (int(place) if place.isdigit() else place) if place else None
    hook, _, index = name.rpartition(".")
    if not index.isdigit():
        model.hook(name)
        return Component("residual", name, None, position)
    kind: Kind = "neuron" if model.hook(hook).head_shape is None else "head"
    found = Component(kind, hook, int(index), position)
    found.columns(model)
    return found


def block_components(model: Model, kind: Kind, *, layers: Sequence[int] | None = None) -> list[Component]:
    """All components of a kind, one block after another: one a block, or every head or neuron of each.

    Raises: UnknownHookError if a block lacks the hook; ConfigError for features, whose dictionary says how many.
    """
    if kind not in _SUFFIXES:
        raise ConfigError("kind: got 'feature'; list features by Component('feature', hook, index)")
    return list(_of_blocks(model, kind, range(model.n_layers) if layers is None else layers))


def _of_blocks(model: Model, kind: Kind, layers: Sequence[int]) -> Iterator[Component]:
    for layer in layers:
        hook = f"blocks.{layer}.{_SUFFIXES[kind]}"
        point = model.hook(hook)
        if kind not in ("head", "neuron"):
            yield Component(kind, hook)
            continue
        n_parts = point.head_shape[0] if kind == "head" and point.head_shape else point.width
        yield from (Component(kind, hook, index) for index in range(n_parts))


def layer_of(model: Model, hook: str) -> int:
    """The block that a hook belongs to.

    Raises: UnknownHookError for a hook outside the blocks.
    """
    layer = model.hook(hook).layer
    if layer is None:
        raise UnknownHookError(f"got {hook}, which belongs to no block; expected one such as blocks.0.hook_resid_pre")
    return layer


def write_part(
    x: Float[Tensor, "b t d"],
    new: Float[Tensor, "b t w"] | Float[Tensor, " w"],
    columns: slice,
    positions: Int[Tensor, " b"] | None,
) -> Float[Tensor, "b t d"]:
    """A copy of x with the chosen columns replaced, at one position of each row or at all; differentiable in both."""
    part = torch.broadcast_to(new, (*x.shape[:2], columns.stop - columns.start)).to(x)
    if positions is not None:
        chosen = torch.arange(x.shape[1], device=x.device) == positions.to(x.device)[:, None]
        part = torch.where(chosen[:, :, None], part, x[:, :, columns])
    return torch.cat([x[:, :, : columns.start], part, x[:, :, columns.stop :]], dim=2)
