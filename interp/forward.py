"""Forward passes that end in logits: edited, differentiated, or begun at a block further up.

Axes: b rows, t position, d width of a hook, v vocabulary (of an encoder, which has no logits: d_model).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import ConfigError, ShapeError
from interp.hook_points import Visit
from interp.hooks import Edit, edit
from interp.models import Model
from interp.prompts import Prompts

_FIRST_EDITABLE = "blocks.0.hook_resid_pre"


def last_outputs(
    model: Model, prompts: Prompts, edits: Mapping[str, Edit] | None = None, *, stem: "Stem | None" = None
) -> Float[Tensor, "b v"]:
    """Logits at each prompt's last token; an encoder's last hidden state there. Differentiable where autograd is on.

    `stem` begins the pass at its block, with what stood there: what lies below is not computed again.

    Raises: UnknownHookError; ShapeError if rows do not fit the context.
    """
    at, place = prompts.last.unique(return_inverse=True)
    with _passes(model, edits, stem):
        out = _outputs(model, prompts, at.to(model.device))
    return out[torch.arange(len(prompts), device=out.device), place.to(out.device)]


def all_outputs(
    model: Model, prompts: Prompts, edits: Mapping[str, Edit] | None = None, *, stem: "Stem | None" = None
) -> Float[Tensor, "b t v"]:
    """The same at every token, padding included."""
    with _passes(model, edits, stem):
        return _outputs(model, prompts, None)


def _outputs(model: Model, prompts: Prompts, at: Tensor | None) -> Tensor:
    if prompts.token_ids.shape[1] > model.context_size:
        raise ShapeError(
            f"got prompts of {prompts.token_ids.shape[1]} tokens; {model.name} reads {model.context_size}; shorten them"
        )
    token_ids, real = prompts.token_ids.to(model.device), prompts.real.to(model.device)
    if not model.causal:
        hidden: Tensor = model.hf(input_ids=token_ids, attention_mask=real.long()).last_hidden_state
        return hidden if at is None else hidden[:, at]
    # Padding is on the right, where nothing reads it: without a mask attention takes its fast path.
    keep = {} if at is None else {"logits_to_keep": at}
    logits: Tensor = model.hf(input_ids=token_ids, use_cache=False, **keep).logits
    return logits


@contextmanager
def _passes(model: Model, edits: Mapping[str, Edit] | None, stem: "Stem | None") -> Iterator[None]:
    with ExitStack() as stack:
        if stem is not None:
            stack.enter_context(stem.entered(model))
        if edits:
            stack.enter_context(edit(model, edits))
        yield


@dataclass(frozen=True, slots=True)
class Stem:
    """What stood at the input of a block, for passes that begin there.

    Shapes: resid (b, t, d), rows as in the prompts of the pass.
    """

    layer: int
    resid: Float[Tensor, "b t d"]

    @contextmanager
    def entered(self, model: Model) -> Iterator[None]:
        """Every pass in the block skips the layers below and reads the stem instead."""
        below = list(model.hf.get_submodule(model.paths.blocks).children())[: self.layer]
        held = [(block, block.forward) for block in below]
        name = f"blocks.{self.layer}.hook_resid_pre"
        point = model.hook(name)
        module = model.hf.get_submodule(point.module_path)
        try:
            for block in below:
                block.forward = _Skipped(returns_tuple(model))
            handle = module.register_forward_pre_hook(self._place)
            yield
        finally:
            handle.remove()
            for block, forward in held:
                block.forward = forward

    def _place(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # A copy: edits further up may write into it.
        return (self.resid.to(args[0]).clone(), *args[1:])


@dataclass(frozen=True, slots=True)
class _Skipped:
    """Stands for the forward of a block that is not run."""

    in_tuple: bool

    def __call__(self, hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        return (hidden_states,) if self.in_tuple else hidden_states


_TUPLES: dict[str, bool] = {}


def returns_tuple(model: Model) -> bool:
    """Whether the family's blocks return a tuple, seen once on one token."""
    if model.family not in _TUPLES:
        seen: list[bool] = []
        block = next(model.hf.get_submodule(model.paths.blocks).children())
        handle = block.register_forward_hook(lambda _m, _a, out: seen.append(isinstance(out, tuple)))
        try:
            with torch.no_grad():
                model.hf.base_model(torch.zeros(1, 1, dtype=torch.int64, device=model.device))
        finally:
            handle.remove()
        _TUPLES[model.family] = seen[0]
    return _TUPLES[model.family]


@dataclass(frozen=True, slots=True)
class Gradients:
    """A pass's outputs, and at each hook the activations and the gradient of a sum over them.

    Shapes: outputs (b, v); acts[hook], grads[hook] (b, t, d_hook).
    """

    outputs: Float[Tensor, "b v"]
    acts: dict[str, Float[Tensor, "b t _"]]
    grads: dict[str, Float[Tensor, "b t _"]]


def gradients_at(
    model: Model,
    prompts: Prompts,
    hooks: Sequence[str],
    objective: Callable[[Float[Tensor, "b v"]], Float[Tensor, " b"]],
    edits: Mapping[str, Edit] | None = None,
) -> Gradients:
    """One pass and one backward pass: activations and gradients of `objective`, row by row, at every hook at once.

    Rows do not mix, so that the gradient of the sum is each row's own.

    Raises: UnknownHookError; ConfigError for a hook that all rows share, such as GPT-2's positions.
    """
    kept: dict[str, Tensor] = {}
    with torch.enable_grad(), ExitStack() as stack:
        # Weights ask for no gradient; the graph begins where the first block reads, or at a hook before it.
        stack.enter_context(edit(model, {_FIRST_EDITABLE: lambda x: x if x.requires_grad else x.requires_grad_()}))
        if edits:
            stack.enter_context(edit(model, edits))
        for name in hooks:
            point = model.hook(name)
            stack.enter_context(point.attach(model.hf, _kept_as(kept, name, writes=point.columns is not None)))
        outputs = last_outputs(model, prompts)
        if shared := [name for name in hooks if kept[name].shape[0] != len(prompts)]:
            raise ConfigError(f"got {shared[0]}, which all rows share; expected a hook that each row has its own of")
        found = torch.autograd.grad(objective(outputs).sum(), [kept[name] for name in hooks], allow_unused=True)
    grads = {
        name: torch.zeros_like(kept[name]) if grad is None else grad for name, grad in zip(hooks, found, strict=True)
    }
    return Gradients(outputs.detach(), {name: kept[name].detach() for name in hooks}, grads)


def _kept_as(kept: dict[str, Tensor], name: str, *, writes: bool) -> Visit:
    def visit(x: Tensor) -> Tensor | None:
        x = x if x.requires_grad else x.requires_grad_()
        kept[name] = x
        # Columns of a fused projection are a copy: only what is written back lies on the path to the output.
        return x if writes else None

    return visit
