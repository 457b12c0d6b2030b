"""What components hold in prompts, or shall hold: parts of activations, and features of dictionaries.

Axes: b prompts, t position, d width of the hook.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.code import FeatureDictionary
from interp.components import Component
from interp.errors import ConfigError
from interp.hooks import capture
from interp.models import Model
from interp.prompts import PromptPairs, Prompts

Dictionaries = Mapping[str, FeatureDictionary]
"""Dictionaries by the hook that they read and write."""


@runtime_checkable
class Values(Protocol):
    """What components shall hold, for some prompts; shapes of one broadcast over prompts or positions."""

    def part(self, component: Component, x: Float[Tensor, "b t d"]) -> Float[Tensor, "#b #t d"]:
        """The whole hook as it shall stand (the component's columns of it are taken), given what stands there."""
        ...

    def feature(self, component: Component) -> Float[Tensor, "#b #t"]:
        """The activation that a feature shall have."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """Values that do not depend on what stands.

    Shapes: acts[hook] (b or 1, t or 1, d); features[hook][index] (b or 1, t or 1).
    """

    acts: Mapping[str, Float[Tensor, "_ _ _"]]
    features: Mapping[str, Mapping[int, Float[Tensor, "_ _"]]]

    def part(self, component: Component, x: Float[Tensor, "b t d"]) -> Float[Tensor, "#b #t d"]:  # noqa: ARG002
        return self.acts[component.hook]

    def feature(self, component: Component) -> Float[Tensor, "#b #t"]:
        return self.features[component.hook][feature_index(component)]


def feature_values(
    dictionary: FeatureDictionary, x: Float[Tensor, "b t d"], features: Sequence[int]
) -> dict[int, Float[Tensor, "b t"]]:
    """Activations of the chosen features of a dictionary."""
    with torch.no_grad():
        code = dictionary.encode(x.flatten(0, 1).float())
    rows, out = code.rows(), {}
    for feature in dict.fromkeys(features):
        own = code.features == feature
        held = code.values.new_zeros(code.n_rows).index_put((rows[own],), code.values[own])
        out[feature] = held.view(x.shape[:2])
    return out


def spoken(model: Model, prompts: Prompts) -> Bool[Tensor, "b t"]:
    """Real tokens but those that frame a row (BOS, [CLS], [SEP]): what a dictionary says there is far off."""
    frame = [token for token in (model.frame.begin, model.frame.end) if token is not None]
    return prompts.real & ~torch.isin(prompts.token_ids, torch.tensor(frame, dtype=torch.int64))


def hooks_of(components: Iterable[Component]) -> list[str]:
    """The hooks of components, each once, in order."""
    return list(dict.fromkeys(component.hook for component in components))


def features_of(components: Iterable[Component]) -> dict[str, list[int]]:
    """Features among components, by hook."""
    found: dict[str, list[int]] = {}
    for component in components:
        if component.kind == "feature" and feature_index(component) not in found.setdefault(component.hook, []):
            found[component.hook].append(feature_index(component))
    return found


def standing(model: Model, prompts: Prompts, hooks: Sequence[str]) -> dict[str, Float[Tensor, "b t _"]]:
    """Activations of the prompts at hooks, without intervention."""
    return capture(model, prompts.token_ids, hooks, None if model.causal else prompts.real) if hooks else {}


def held_by(model: Model, prompts: Prompts, components: Sequence[Component], dictionaries: Dictionaries) -> Held:
    """What components hold in the prompts, without intervention."""
    acts, features = standing(model, prompts, hooks_of(components)), {}
    for hook, wanted in features_of(components).items():
        dictionary = checked_dictionary(dictionaries.get(hook), [Component("feature", hook, wanted[0])])
        features[hook] = feature_values(dictionary, acts[hook], wanted)
    return Held(acts, features)


def checked_dictionary(dictionary: FeatureDictionary | None, components: Sequence[Component]) -> FeatureDictionary:
    """The dictionary of feature components of one hook, if it has them.

    Raises: ConfigError.
    """
    hook = components[0].hook
    if dictionary is None:
        raise ConfigError(f"got feature {components[0]} without a dictionary for {hook}; give one in `dictionaries`")
    if dictionary.hooks_in != (hook,) or dictionary.hooks_out != (hook,):
        reads, writes = ", ".join(dictionary.hooks_in), ", ".join(dictionary.hooks_out)
        raise ConfigError(f"{hook}: got a dictionary that reads {reads} and writes {writes}; expected {hook} for both")
    wrong = next((feature_index(c) for c in components if not 0 <= feature_index(c) < dictionary.d_sae), None)
    if wrong is not None:
        raise ConfigError(f"{hook}: got feature {wrong}; expected 0 to {dictionary.d_sae - 1}")
    return dictionary


def feature_index(component: Component) -> int:
    """A component's number where it must have one.

    Raises: ConfigError.
    """
    if component.index is None:
        raise ConfigError(f"got {component}, which is no feature; expected a feature component")
    return component.index


def flat(held: Held) -> Iterator[tuple[tuple[str, int | None], Float[Tensor, "b t _"]]]:
    """All tensors of values as (b, t, width), a feature's with width one."""
    yield from (((hook, None), acts) for hook, acts in held.acts.items())
    for hook, features in held.features.items():
        yield from (((hook, index), acts[:, :, None]) for index, acts in features.items())


def unflat(tensors: Mapping[tuple[str, int | None], Float[Tensor, "_ _ _"]]) -> Held:
    """The values that `flat` took apart."""
    acts = {hook: x for (hook, index), x in tensors.items() if index is None}
    features: dict[str, dict[int, Tensor]] = {}
    for (hook, index), x in tensors.items():
        if index is not None:
            features.setdefault(hook, {})[index] = x[:, :, 0]
    return Held(acts, features)


def strongest_features(
    model: Model, prompts: PromptPairs | Prompts, hook: str, dictionary: FeatureDictionary, n: int
) -> list[int]:
    """The features of most activation over the prompts' tokens, or of most difference between the pairs' sides.

    Tokens that frame a row do not count.

    Raises: ConfigError for a dictionary that does not read and write the hook.
    """
    checked_dictionary(dictionary, [Component("feature", hook, 0)])
    sides = [prompts.clean, prompts.corrupt] if isinstance(prompts, PromptPairs) else [prompts]
    codes = [
        dictionary.encode(standing(model, side, [hook])[hook][spoken(model, side).to(model.device)].float()).dense()
        for side in sides
    ]
    total = (codes[0] - codes[1] if len(codes) == 2 else codes[0]).abs().sum(0)
    order = total.argsort(descending=True, stable=True)[:n].tolist()
    return sorted(feature for feature in order if total[feature] > 0) or [int(order[0])]
