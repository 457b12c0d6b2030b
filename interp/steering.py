"""Steering: a direction added to the activations, and what that does to an outcome, strength by strength.

Axes: b rows, t position, d width of the hook, m directions, s strengths, p prompts, c control directions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor, nn

from interp.datasets import MaskPolicy, masked_ids
from interp.directions import Direction, steerable, with_norms
from interp.effects import Estimate, mean_effect
from interp.errors import ConfigError
from interp.forward import Stem, last_outputs
from interp.hooks import Edit, capture, edit
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import Prompts
from interp.side_effects import steered_kl, steered_side_effects
from interp.steering_results import ControlArm, DoseResponse, SteeredText

PASS_TOKENS = 8192
"""Tokens of one forward pass of a sweep; copies of the prompts share passes up to it."""
SIDE_CONTROLS = 20
"""Of each kind of controls, how many have their side effects measured."""
Progress = Callable[[str, int, int], None]


def reach(
    model: Model, prompts: Prompts, position: int | str | None = None, *, onwards: bool = False
) -> Bool[Tensor, "b t"]:
    """Which tokens are steered: all but padding, BOS and special ones; one place; or that and later ones.

    Raises: ConfigError for a place that the prompts do not name.
    """
    keep = steerable(model, prompts)
    positions = prompts.positions(position)
    if positions is None:
        return keep
    at = torch.arange(prompts.token_ids.shape[1])
    return keep & (at >= positions[:, None]) if onwards else at == positions[:, None]


def adding(deltas: Float[Tensor, "m d"], keep: Bool[Tensor, "p t"]) -> Edit:
    """An edit for m whole copies of the prompts, one after another: copy i has deltas[i] added at the kept tokens."""

    def edited(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        moved = deltas.to(x).repeat_interleave(keep.shape[0], dim=0)[:, None, :]
        return torch.where(keep.to(x.device).repeat(deltas.shape[0], 1)[:, :, None], x + moved, x)

    return edited


@contextmanager
def steer(
    model: Model, direction: Direction, strength: float = 1.0, *, mask: MaskPolicy | None = None
) -> Iterator[None]:
    """Every forward pass of `model.hf` in the block, generation included, has strength · direction added.

    BOS and special tokens are spared as `mask` says, padding where the pass is given a mask.

    Raises: UnknownHookError; ShapeError if the direction does not fit the hook; ConfigError for a strength that is not
    finite.
    """
    direction.check_fits(model)
    _check_finite("strength", [strength])
    spared = torch.tensor(sorted(masked_ids(model, mask or MaskPolicy())), dtype=torch.int64)
    seen: dict[str, Tensor] = {}

    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        token_ids = args[0] if args else kwargs["input_ids"]
        real, now = kwargs.get("attention_mask"), token_ids.shape[1]
        keep = ~torch.isin(token_ids, spared.to(token_ids.device))
        # With a cache the mask covers the past too.
        seen["keep"] = keep & real[:, -now:].bool() if isinstance(real, Tensor) and real.ndim == 2 else keep

    def edited(x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return torch.where(seen["keep"].to(x.device)[:, :, None], x + strength * direction.vector.to(x), x)

    handle = model.hf.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with edit(model, {direction.hook: edited}):
            yield
    finally:
        handle.remove()


@dataclass(frozen=True, slots=True)
class SteeringScene:
    """The prompts, where they are steered, and what is measured; passes begin at the hook's block.

    Shapes: keep (p, t); unsteered (p,).
    """

    model: Model
    hook: str
    prompts: Prompts
    keep: Bool[Tensor, "p t"]
    outcome: Outcome
    unsteered: Float[Tensor, " p"]
    stem: Stem | None

    @staticmethod
    def of(
        model: Model,
        hook: str,
        prompts: Prompts,
        outcome: Outcome,
        *,
        position: int | str | None = None,
        onwards: bool = False,
    ) -> "SteeringScene":
        """One pass without steering, whose lower blocks all later passes share.

        Raises: UnknownHookError; ConfigError for an unknown place.
        """
        hook = _next_block(model, hook)
        layer = model.hook(hook).layer
        below = f"blocks.{layer}.hook_resid_pre"
        stem = None
        if layer:
            mask = None if model.causal else prompts.real
            stem = Stem(layer, capture(model, prompts.token_ids, [below], mask)[below])
        with torch.no_grad():
            unsteered = outcome(last_outputs(model, prompts, stem=stem), prompts)
        keep = reach(model, prompts, position, onwards=onwards)
        return SteeringScene(model, hook, prompts, keep, outcome, unsteered, stem)

    def effects(
        self, vectors: Float[Tensor, "m d"], strengths: Sequence[float], *, tell: Callable[[int], None] | None = None
    ) -> Float[ndarray, "m s p"]:
        """Steered minus unsteered outcome of every prompt, for each direction and strength."""
        deltas = (vectors[:, None, :] * torch.tensor(strengths).to(vectors)[None, :, None]).flatten(0, 1)
        n_prompts, n_tokens = self.prompts.token_ids.shape
        copies = max(1, PASS_TOKENS // (n_prompts * n_tokens))
        found = []
        for first in range(0, deltas.shape[0], copies):
            part = deltas[first : first + copies]
            found.append(self._pass(part))
            if tell is not None:
                tell(first + part.shape[0])
        return torch.cat(found).double().cpu().numpy().reshape(vectors.shape[0], len(strengths), n_prompts)

    def _pass(self, deltas: Float[Tensor, "m d"]) -> Float[Tensor, "m p"]:
        m = deltas.shape[0]
        prompts = self.prompts.repeat(m)
        stem = None if self.stem is None else Stem(self.stem.layer, self.stem.resid.repeat(m, 1, 1))
        with torch.no_grad():
            outputs = last_outputs(self.model, prompts, {self.hook: adding(deltas, self.keep)}, stem=stem)
            return self.outcome(outputs, prompts).view(m, -1) - self.unsteered


def _next_block(model: Model, hook: str) -> str:
    """The same activations by their name in the next block, so that a pass can begin there."""
    layer = model.hook(hook).layer
    if layer is None or layer + 1 == model.n_layers or not hook.endswith("hook_resid_post"):
        return hook
    return f"blocks.{layer + 1}.hook_resid_pre"


def dose_response(
    model: Model,
    direction: Direction,
    prompts: Prompts,
    outcome: Outcome,
    *,
    strengths: Sequence[float],
    controls: Mapping[str, Float[Tensor, "c d"]] | None = None,
    position: int | str | None = None,
    onwards: bool = False,
    neutral: Prompts | None = None,
    texts: tuple[SteeredText, ...] = (),
    provenance: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> DoseResponse:
    """Steer prompts along a direction at each strength, beside control directions made as long as it.

    `position` and `onwards` say where (see `reach`); `neutral` is text on which side effects are measured.

    Raises: ConfigError for fewer than two strengths, or one that is not finite; UnknownHookError; ShapeError if a
    direction does not fit the hook.
    """
    direction.check_fits(model)
    _check_finite("strengths", strengths)
    if len(set(strengths)) < 2:
        raise ConfigError(f"strengths: got {list(strengths)}; expected at least two that differ")
    strengths = sorted(set(strengths))
    scene = SteeringScene.of(model, direction.hook, prompts, outcome, position=position, onwards=onwards)
    # (s, p): the direction itself is one control of none.
    own = scene.effects(direction.vector[None], strengths)[0]
    clusters = prompts.clusters.numpy()
    arms = []
    for name, vectors in (controls or {}).items():
        held = with_norms(vectors, direction.norm)
        effects = _of_controls(
            scene, held, strengths, _told(on_progress, name, held.shape[0] * sum(s != 0 for s in strengths))
        )
        kl = None if neutral is None else steered_kl(model, direction.hook, held[:SIDE_CONTROLS], strengths, neutral)
        gap = mean_effect(own - effects.mean(0), clusters)
        arms.append(ControlArm(name, effects.mean(2), gap, _slopes(effects.mean(2), strengths), kl))
    return DoseResponse(
        hook=direction.hook,
        direction=direction.name,
        source=direction.source,
        norm=direction.norm,
        outcome=outcome.name,
        units=outcome.units,
        strengths=np.array(strengths),
        effect=mean_effect(own, clusters),
        slope=_slope(own, strengths, clusters),
        reference=float(scene.unsteered.double().mean()),
        n_prompts=len(prompts),
        n_clusters=len(np.unique(clusters)),
        arms=tuple(arms),
        side_effects=None if neutral is None else steered_side_effects(model, direction, strengths, neutral),
        texts=texts,
        provenance=dict(provenance or {}) | {"position": position, "onwards": onwards},
    )


def _check_finite(name: str, strengths: Sequence[float]) -> None:
    if not np.isfinite(strengths).all():
        shown = ", ".join(f"{strength:g}" for strength in strengths)
        raise ConfigError(f"{name}: got {shown}; expected finite numbers, 0 for the model as it is")


def _of_controls(
    scene: SteeringScene, vectors: Float[Tensor, "c d"], strengths: Sequence[float], tell: Callable[[int], None] | None
) -> Float[ndarray, "c s p"]:
    """Effects of many directions; strength 0, which changes nothing, is not run for each."""
    moved = np.array(strengths) != 0
    effects = np.zeros((vectors.shape[0], len(strengths), len(scene.prompts)))
    effects[:, moved] = scene.effects(vectors, [s for s in strengths if s != 0], tell=tell)
    return effects


def _told(on_progress: Progress | None, name: str, total: int) -> Callable[[int], None] | None:
    return None if on_progress is None else lambda done: on_progress(name, done, total)


def _slopes(effects: Float[ndarray, "... s"], strengths: Sequence[float]) -> Float[ndarray, "..."]:
    """Mean finite difference: on any grid, that between its ends."""
    return np.asarray((effects[..., -1] - effects[..., 0]) / (strengths[-1] - strengths[0]))


def _slope(own: Float[ndarray, "s p"], strengths: Sequence[float], clusters: Int[ndarray, " p"]) -> Estimate:
    return mean_effect(_slopes(own.T, strengths), clusters)
