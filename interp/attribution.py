"""Attribution patching: what patching each part would do, to first order, for all parts from one backward pass.

Axes: b pairs, t position, d width of a hook, w width of a part, c components, p positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from interp.code import FeatureDictionary
from interp.component_values import spoken
from interp.components import Component
from interp.effects import EffectGrid, axis_of, near_zero, ratio_effect
from interp.errors import ConfigError
from interp.feature_sites import FeatureSite
from interp.forward import gradients_at
from interp.models import Model
from interp.outcomes import Outcome
from interp.prompts import PromptPairs, Prompts
from interp.two_runs import Direction, TwoRuns, seen

Dictionaries = Mapping[str, FeatureDictionary]
"""By the hook that each stands at: the one that it writes."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Both runs' activations at each hook, the gradient that their difference is held against, both outcomes.

    Shapes: before[hook], after[hook], gradient[hook] (b, t, d_hook): in the changed run, in the other one, of the
    outcome; changed, source (b,): outcomes of the two runs as they are.
    """

    before: dict[str, Float[Tensor, "b t _"]]
    after: dict[str, Float[Tensor, "b t _"]]
    gradient: dict[str, Float[Tensor, "b t _"]]
    changed: Float[Tensor, " b"]
    source: Float[Tensor, " b"]

    def change(self, hook: str) -> Float[Tensor, "b t _"]:
        """What patching the whole hook would add to it."""
        return self.after[hook] - self.before[hook]


Estimator = Callable[[Model, TwoRuns, Sequence[str], Outcome], Differences]
"""Chooses where the gradient is taken: at the changed run, or along a path to the other."""


def first_order(model: Model, runs: TwoRuns, hooks: Sequence[str], outcome: Outcome) -> Differences:
    """The gradient at the changed run itself.

    Raises: UnknownHookError.
    """
    found = gradients_at(model, runs.changed, hooks, lambda outputs: outcome(outputs, runs.judged))
    source = seen(model, runs.source, hooks, outcome, runs.judged)
    changed = outcome(found.outputs, runs.judged)
    return Differences(found.acts, source.acts, found.grads, changed, source.outcome)


def attribution_patching(
    model: Model,
    pairs: PromptPairs,
    components: Sequence[Component],
    outcome: Outcome,
    *,
    direction: Direction,
    positions: Sequence[int | str | None] = (None,),
    dictionaries: Dictionaries | None = None,
    batch_size: int | None = None,
) -> EffectGrid:
    """First-order estimate of activation patching for every component at every position.

    Denoising: (clean - corrupt) · gradient at the corrupt run. Noising: (corrupt - clean) · gradient at the clean run.
    A component's own position stands where `positions` has None. Features are patched with their error kept.

    Units: share of the difference between the two runs, as a ratio of means over pairs.
    Raises: ConfigError for no component or position, or a feature without a dictionary at its hook; UnknownHookError.
    Source: Nanda 2023, attribution patching; Syed et al. 2023 (arXiv 2310.10348).
    """
    return estimated_effects(
        model,
        pairs,
        components,
        outcome,
        first_order,
        method=f"attribution patching, {direction}",
        direction=direction,
        positions=positions,
        dictionaries=dictionaries or {},
        batch_size=batch_size,
    )


def estimated_effects(
    model: Model,
    pairs: PromptPairs,
    components: Sequence[Component],
    outcome: Outcome,
    estimator: Estimator,
    *,
    method: str,
    direction: Direction,
    positions: Sequence[int | str | None],
    dictionaries: Dictionaries,
    batch_size: int | None,
) -> EffectGrid:
    """The grid of effects whose gradients come from `estimator`; the arguments are those of `attribution_patching`."""
    outcome.check(model)
    if not components or not positions:
        raise ConfigError(
            f"got {len(components)} components at {len(positions)} positions; expected one of each at least, such as "
            'block_components(model, "head") at (None,)'
        )
    sites = _sites(model, components, dictionaries)
    hooks = list(dict.fromkeys([c.hook for c in components] + [site.reads for site in sites.values()]))
    effects, changed, source = [], [], []
    for runs in TwoRuns.of(pairs, direction).batches(batch_size):
        found = estimator(model, runs, hooks, outcome)
        effects.append(_estimates(model, runs.changed, found, components, positions, sites))
        changed.append(as_float64(found.changed))
        source.append(as_float64(found.source))
    base, other = np.concatenate(changed), np.concatenate(source)
    estimate = ratio_effect(np.concatenate(effects, axis=2), other - base, pairs.clean.clusters.numpy())
    clean, corrupt = (base, other) if direction == "noising" else (other, base)
    return EffectGrid(
        (axis_of("component", components), axis_of("position", ["all" if p is None else p for p in positions])),
        estimate.value,
        estimate.interval,
        method,
        outcome.name,
        "share of the difference",
        len(pairs),
        {"clean": float(clean.mean()), "corrupt": float(corrupt.mean())},
        near_zero(other - base),
        {"model": model.facts},
    )


def as_float64(values: Tensor) -> ndarray:
    """A tensor's values as an array."""
    return values.detach().double().cpu().numpy()


def _sites(model: Model, components: Sequence[Component], dictionaries: Dictionaries) -> dict[str, FeatureSite]:
    hooks = dict.fromkeys(component.hook for component in components if component.kind == "feature")
    return {hook: FeatureSite.of(model, dictionary_at(dictionaries, hook)) for hook in hooks}


def dictionary_at(dictionaries: Dictionaries, hook: str) -> FeatureDictionary:
    """The dictionary that stands at a hook.

    Raises: ConfigError if there is none.
    """
    if hook not in dictionaries:
        held = ", ".join(dictionaries) or "no hook"
        raise ConfigError(f"got a feature at {hook}; dictionaries stand at {held}; give the one that writes it")
    return dictionaries[hook]


def _estimates(
    model: Model,
    prompts: Prompts,
    found: Differences,
    components: Sequence[Component],
    positions: Sequence[int | str | None],
    sites: Mapping[str, FeatureSite],
) -> Float[ndarray, "c p b"]:
    """Each part's change times its gradient, summed over the tokens it is patched at."""
    products: dict[tuple[str, bool], Tensor] = {}
    rows = []
    for component in components:
        key = (component.hook, component.kind == "feature")
        if key not in products:
            products[key] = _product(found, component, sites)
        product = products[key]
        columns = _columns(model, component, product.shape[2])
        per_token = product[:, :, columns].sum(2)
        # Patching leaves the features of tokens that frame a row as they are.
        real = spoken(model, prompts) if component.kind == "feature" else prompts.real
        rows.append([_at(per_token, prompts, real, component.position if p is None else p) for p in positions])
    return np.stack([np.stack([as_float64(effect) for effect in row]) for row in rows])


def _product(found: Differences, component: Component, sites: Mapping[str, FeatureSite]) -> Tensor:
    """Change times gradient, entry by entry: of the activation's columns, or of the dictionary's features."""
    if component.kind != "feature":
        return found.change(component.hook) * found.gradient[component.hook]
    site = sites[component.hook]
    with torch.no_grad():
        change = site.encoded(found.after[site.reads]).values - site.encoded(found.before[site.reads]).values
        return change * (found.gradient[site.writes] @ site.rows.t())


def _columns(model: Model, component: Component, width: int) -> slice:
    if component.kind != "feature" or component.index is None:
        return component.columns(model)
    if not 0 <= component.index < width:
        raise ConfigError(f"{component.hook}: got feature {component.index}; expected 0 to {width - 1}")
    return slice(component.index, component.index + 1)


def _at(
    per_token: Float[Tensor, "b t"], prompts: Prompts, real: Bool[Tensor, "b t"], position: int | str | None
) -> Float[Tensor, " b"]:
    at = prompts.positions(position)
    if at is None:
        return (per_token * real.to(per_token.device)).sum(1)
    return per_token.gather(1, at.to(per_token.device)[:, None])[:, 0]
