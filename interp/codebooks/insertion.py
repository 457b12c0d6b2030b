"""Codebooks put into a model at hooks, and taken out again without a trace.

Axes: b rows, t position, g groups, k active codes, d width of the hook.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.codebooks.quantise import Combine, Quantised, Quantiser
from interp.errors import ConfigError, ModelError, UnknownHookError
from interp.hook_points import Visit
from interp.models import Model

Site = Literal["attn", "mlp", "resid"]
SITE_HOOKS: Mapping[Site, str] = {"attn": "attn.hook_z", "mlp": "hook_mlp_out", "resid": "hook_resid_post"}
"""attn: every head's output before W_O, a codebook for each; mlp: before the addition to the stream; resid: the stream
after a block."""

Choose = Callable[[Int[Tensor, "b t g k"]], Int[Tensor, "b t g k"]]
"""Takes the nearest codes at a hook and returns those that shall be active instead."""


class Codebooks(nn.Module):
    """The codebooks of a model, by hook, in the order in which a forward pass reaches them."""

    def __init__(self, quantisers: Mapping[str, Quantiser]) -> None:
        super().__init__()
        self.by_hook = nn.ModuleDict({_key(hook): quantiser for hook, quantiser in quantisers.items()})

    @property
    def hooks(self) -> tuple[str, ...]:
        return tuple(key.replace("/", ".") for key in self.by_hook)

    def __getitem__(self, hook: str) -> Quantiser:
        if _key(hook) not in self.by_hook:
            raise UnknownHookError(f"got hook {hook!r}; there are codebooks at {', '.join(self.hooks)}; name one")
        return cast(Quantiser, self.by_hook[_key(hook)])

    def items(self) -> Iterator[tuple[str, Quantiser]]:
        """Hooks with their codebooks."""
        return ((hook, self[hook]) for hook in self.hooks)


def _key(hook: str) -> str:
    # Names of modules may not hold dots.
    return hook.replace(".", "/")


def site_hooks(model: Model, at: Iterable[Site], layers: Sequence[int] = ()) -> tuple[str, ...]:
    """The hooks of the chosen sites, in the order of a forward pass; no layers means all.

    Raises: ConfigError for a layer that the model lacks; ModelError for an encoder.
    """
    if not model.causal:
        raise ModelError(f"{model.name} is an encoder; codebooks are finetuned on next tokens: give a causal model")
    outside = [layer for layer in layers if not 0 <= layer < model.n_layers]
    if outside:
        raise ConfigError(f"layers: got {outside[0]}; {model.name} has layers 0 to {model.n_layers - 1}")
    wanted = {f"blocks.{layer}.{SITE_HOOKS[site]}" for layer in layers or range(model.n_layers) for site in at}
    return tuple(name for name in model.hooks if name in wanted)


def new_codebooks(
    model: Model, hooks: Sequence[str], *, n_codes: int, k: int = 1, combine: Combine = "sum"
) -> Codebooks:
    """Fresh codebooks, N(0, 1) from torch's random state: one for each head at `hook_z`, one for the whole elsewhere.

    Raises: UnknownHookError; ConfigError for more active codes than there are.
    """
    quantisers = {}
    for hook in hooks:
        point = model.hook(hook)
        n_groups = point.head_shape[0] if point.head_shape else 1
        quantisers[hook] = Quantiser(point.width, n_codes=n_codes, k=k, n_groups=n_groups, combine=combine)
    return Codebooks(quantisers).to(model.device)


class Insertion:
    """Codebooks at work in every forward pass of a model, until removed; the model's own weights are not touched.

    `without` are hooks left as they were, so that tools see the activations there and a CodebookDictionary can stand in
    their place. `choose` replaces the nearest codes by others.
    """

    def __init__(
        self,
        model: Model,
        codebooks: Codebooks,
        *,
        without: Sequence[str] = (),
        choose: Mapping[str, Choose] | None = None,
    ) -> None:
        """Raises: UnknownHookError if the model or the codebooks lack a hook."""
        self.seen: dict[str, Quantised] = {}
        self._choose = dict(choose or {})
        for hook in (*without, *self._choose):
            codebooks[hook]
        points = [model.hook(hook) for hook in codebooks.hooks if hook not in without]
        visits = [self._visit(point.name, codebooks[point.name]) for point in points]
        self._handles = [point.attach(model.hf, visit) for point, visit in zip(points, visits, strict=True)]

    def _visit(self, hook: str, quantiser: Quantiser) -> Visit:
        def visit(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            ids = None
            if hook in self._choose:
                ids = self._choose[hook](quantiser.nearest(quantiser.normalise(x)))
            self.seen[hook] = quantiser(x, ids)
            return self.seen[hook].output

        return visit

    def take(self) -> dict[str, Quantised]:
        """What the last forward pass made at each hook; it is then forgotten, so that its graph can go."""
        seen, self.seen = self.seen, {}
        return seen

    def remove(self) -> None:
        """Take the codebooks out: the model computes what it did before."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.seen = [], {}

    def __enter__(self) -> "Insertion":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
