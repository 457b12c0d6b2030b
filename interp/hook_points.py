"""A place in a model where activations can be read and replaced.

Axes: b rows of tokens, t position, d width of the activations, c columns of a fused projection.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Visit = Callable[[Float[Tensor, "b t d"]], Float[Tensor, "b t d"] | None]
"""Sees the activations at a hook point; returns what shall stand there instead, or None to leave them."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a fused projection: `width` of them from `start` in each of `n_groups` equal groups."""

    n_groups: int
    start: int
    width: int

    def read(self, fused: Float[Tensor, "b t c"]) -> Float[Tensor, "b t d"]:
        return self._view(fused).flatten(-2).contiguous()

    def write(self, fused: Float[Tensor, "b t c"], acts: Float[Tensor, "b t d"]) -> Float[Tensor, "b t c"]:
        out = fused.clone()
        self._view(out).copy_(acts.unflatten(-1, (self.n_groups, self.width)))
        return out

    def _view(self, fused: Tensor) -> Tensor:
        groups: Tensor = fused.unflatten(-1, (self.n_groups, -1))
        return groups.narrow(-1, self.start, self.width)


@dataclass(frozen=True, slots=True)
class HookPoint:
    """One side of one module, under the name TransformerLens gives to that tensor.

    `layer` is None outside the blocks. `head_shape` is (heads, width of a head) where the columns are heads side by
    side. `columns` picks a part of a fused projection. `shared`: the module is not the only reader of its input (a
    residual stream that a norm reads), so a replacement is written into the tensor itself.
    """

    name: str
    module_path: str
    side: Literal["in", "out"]
    layer: int | None
    width: int
    head_shape: tuple[int, int] | None = None
    columns: Columns | None = None
    shared: bool = False

    def attach(self, root: nn.Module, visit: Visit) -> RemovableHandle:
        """Let `visit` see, and replace, these activations in every forward pass until the handle is removed."""
        module = root.get_submodule(self.module_path)
        if self.side == "in":
            return module.register_forward_pre_hook(_Before(self, visit))
        return module.register_forward_hook(_After(self, visit))

    def visited(self, raw: Tensor, visit: Visit) -> Tensor | None:
        """What replaces the module's whole tensor after `visit`, or None."""
        acts = visit(raw if self.columns is None else self.columns.read(raw))
        if acts is None:
            return None
        if self.shared:
            return raw.copy_(acts)
        return acts if self.columns is None else self.columns.write(raw, acts)


@dataclass(frozen=True, slots=True)
class _Before:
    point: HookPoint
    visit: Visit

    def __call__(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        new = self.point.visited(args[0], self.visit)
        return None if new is None else (new, *args[1:])


@dataclass(frozen=True, slots=True)
class _After:
    point: HookPoint
    visit: Visit

    def __call__(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        # Attention modules return (output, weights).
        if not isinstance(output, tuple):
            return self.point.visited(output, self.visit)
        new = self.point.visited(output[0], self.visit)
        return None if new is None else (new, *output[1:])


def detach_all(root: nn.Module) -> None:
    """Remove every hook made by `HookPoint.attach`, and no other: transformers keeps hooks of its own."""
    for module in root.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if isinstance(hook, _Before | _After)]:
                del hooks[key]
