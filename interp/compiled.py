"""Activations by a compiled forward pass: a copy of the model that ends at the deepest hook, compiled with hooks on.

Axes: b rows of tokens, t position, d width of the hook.
"""

import copy
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import ConfigError, ModelError
from interp.hook_points import Visit
from interp.hooks import capture, check_tokens, separate
from interp.models import Model

RELATIVE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far the first compiled batch may be from the same batch uncompiled: norm of the difference over the norm.

Of the whole batch and of the median token: where attention sinks are hundreds of times as large as what else there is,
the whole is blind to the rest.
"""
QUANTILE, TIMES = 0.99, 4
"""Share of the tokens that must keep so many times that bound: rounding is worst where a token is small.

In bfloat16, hook_attn_out and hook_z of a model of five blocks (stories260K, by inductor on a CPU) are .06 to .09 away
at this quantile and .015 to .03 at the median, and no farther from float32 than uncompiled ones.
"""
Backend = str | Callable[..., Any]
"""A compiler, as torch.compile takes it: by name, or a function of a graph and its inputs."""


class CompiledCapture:
    """As `interp.hooks.capture` at fixed hooks. The model itself is not changed, and edits of it are not seen.

    The first batch with kept tokens is also computed uncompiled and compared. Rows and positions may differ from batch
    to batch; `n_graphs` counts how often something was compiled, which is again where torch finds that its code does
    not fit.
    """

    def __init__(self, model: Model, hooks: Sequence[str], *, backend: Backend = "inductor") -> None:
        """Raises: UnknownHookError for a name the model lacks; ConfigError for hooks of several models."""
        if any(model.owner(name)[0] is not model for name in hooks):
            raise ConfigError("harvest.compile: got hooks of two models; leave it out")
        self.n_graphs = 0
        self._model, self._hooks, self._checked = model, tuple(hooks), False
        self._run = torch.compile(
            _forward_of(model, self._hooks), backend=self._counting(backend), dynamic=True, fullgraph=True
        )

    def __call__(
        self,
        token_ids: Int[Tensor, "b t"],
        attention_mask: Bool[Tensor, "b t"] | Int[Tensor, "b t"] | None = None,
        position_ids: Int[Tensor, "b t"] | None = None,
        keep: Bool[Tensor, "b t"] | None = None,
    ) -> dict[str, Float[Tensor, "b t _"]]:
        """Activations at the hooks, as `capture` gives them; those at `keep`, by default all, are compared with it.

        Raises: ConfigError if the model cannot be compiled; ModelError if it then computes something else.
        """
        check_tokens(self._model, token_ids)
        before, begun = self.n_graphs, time.perf_counter()
        try:
            with torch.no_grad():
                found = self._run(token_ids, attention_mask, position_ids)
        except _compiler_errors() as error:
            raise ConfigError(
                f"harvest.compile: {self._model.name} cannot be compiled ({_told(error)}); leave it out"
            ) from None
        if self.n_graphs > before:
            self._tell(time.perf_counter() - begun)
        acts = separate(dict(zip(self._hooks, found, strict=True)), self._hooks, n_rows=token_ids.shape[0])
        if not self._checked and (keep is None or keep.any()):
            rows = slice(None) if keep is None else keep
            expected = capture(self._model, token_ids, self._hooks, attention_mask, position_ids)
            for hook, x in expected.items():
                self._check(hook, acts[hook][rows].flatten(0, -2).float(), x[rows].flatten(0, -2).float(), x.dtype)
            self._checked = True
        return acts

    def _tell(self, seconds: float) -> None:
        again = f", {self.n_graphs} times so far" if self.n_graphs > 1 else ""
        print(f"compile: forward pass of {self._model.name} in {seconds:.1f} s{again}", file=sys.stderr, flush=True)

    def _check(
        self, hook: str, found: Float[Tensor, "n d"], expected: Float[Tensor, "n d"], dtype: torch.dtype
    ) -> None:
        """Raises: ModelError if compiled activations are not those of the model."""
        apart, norms = (found - expected).norm(dim=1), expected.norm(dim=1)
        whole = float(apart.norm() / norms.norm().clamp_min(1e-30))
        each, bound = apart / norms.clamp_min(1e-30), RELATIVE[dtype]
        for how_far, most, where in (
            (whole, bound, ""),
            (float(each.quantile(0.5)), bound, " for half of the tokens"),
            (float(each.quantile(QUANTILE)), TIMES * bound, f" for {1 - QUANTILE:.0%} of the tokens or more"),
        ):
            if not how_far <= most:
                raise ModelError(
                    f"{hook}: compiled activations of {self._model.name} are {how_far:.2g} of their norm away from "
                    f"uncompiled ones{where}; expected at most {most:g}; leave harvest.compile out"
                )

    def _counting(self, given: Backend) -> Callable[..., Any]:
        compiled_by = torch._dynamo.lookup_backend(given)

        def backend(graph: Any, inputs: Any) -> Any:
            made = compiled_by(graph, inputs)
            # Counted when done: tracing may begin again in the middle.
            self.n_graphs += 1
            return made

        return backend


def _forward_of(model: Model, hooks: tuple[str, ...]) -> Callable[..., tuple[Tensor, ...]]:
    """The forward pass up to the deepest hook, as a function of tokens that gives what the hooks see."""
    points = [model.hook(name) for name in hooks]
    twin = _twin(model.hf, [*(point.module_path for point in points), model.paths.blocks])
    layers = [point.layer for point in points]
    # Hooks outside the blocks may stand before the first or after the last.
    if None not in layers:
        _cut(twin.get_submodule(model.paths.blocks), max(layer for layer in layers if layer is not None) + 1)
    acts: dict[str, Tensor] = {}
    for point in points:
        point.attach(twin, _keep(acts, point.name))
    body: Any = twin.base_model
    fixed = {"use_cache": False} if model.causal else {}

    def forward(token_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None) -> tuple[Tensor, ...]:
        given = {"attention_mask": attention_mask, "position_ids": position_ids}
        body(input_ids=token_ids, **{name: x for name, x in given.items() if x is not None}, **fixed)
        found = tuple(acts[name] for name in hooks)
        # Empty before every pass: what was compiled for an empty one does not fit another.
        acts.clear()
        return found

    # What was compiled is kept by code object, and only so many times for each: every capture has its own.
    forward.__code__ = forward.__code__.replace(co_name=f"forward_of_{model.family}")
    return forward


def _keep(acts: dict[str, Tensor], name: str) -> Visit:
    def visit(x: Tensor) -> None:
        acts[name] = x

    return visit


def _twin(root: nn.Module, paths: Iterable[str]) -> nn.Module:
    """The same modules, but for those on the way to `paths`, which are copies with hooks of their own.

    All tensors are shared.
    """
    top = _copied(root)
    copies = {"": top}
    for path in paths:
        at, walked = top, ""
        for part in path.split("."):
            walked = f"{walked}.{part}"
            if walked not in copies:
                copies[walked] = _copied(at.get_submodule(part))
                at._modules[part] = copies[walked]
            at = copies[walked]
    return top


def _copied(module: nn.Module) -> nn.Module:
    new = copy.copy(module)
    # A shallow copy shares the dictionaries, in which children and hooks are entered.
    for name in ("_modules", "_forward_hooks", "_forward_pre_hooks"):
        new.__dict__[name] = new.__dict__[name].copy()
    return new


def _cut(blocks: nn.Module, n_kept: int) -> None:
    for name in list(blocks._modules)[n_kept:]:
        del blocks._modules[name]


def _compiler_errors() -> tuple[type[Exception], ...]:
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    return TorchDynamoException, FailOnRecompileLimitHit, CppCompileError, InvalidCxxCompiler


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
