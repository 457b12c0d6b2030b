"""Passes in which components are replaced: one at a time, or several together.

Features are replaced with the dictionary's error kept: what stands changes along their own directions and no more.

Axes: b prompts, t position, d width of the hook, w width of the part.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.code import FeatureDictionary
from interp.component_values import (
    Dictionaries,
    Values,
    checked_dictionary,
    feature_index,
    feature_values,
    hooks_of,
    spoken,
)
from interp.components import Component, write_part
from interp.hooks import Edit
from interp.interventions import Intervention
from interp.models import Model
from interp.prompts import Prompts


def parts_written(
    model: Model,
    prompts: Prompts,
    components: Sequence[Component],
    x: Float[Tensor, "b t d"],
    values: Values,
    dictionary: FeatureDictionary | None,
) -> Iterator[Float[Tensor, "b t w"]]:
    """Columns of each component of one hook, each replaced alone, at every token, given what stands there."""
    features = [component for component in components if component.kind == "feature"]
    now = _activations(dictionary, x, features)
    for component in components:
        if component.kind == "feature":
            step = _step(component, values, now, dictionary)
            yield x + (step * _where(model, prompts, component)[:, :, None].to(x.device)).to(x)
        else:
            columns = component.columns(model)
            yield values.part(component, x).to(x)[:, :, columns].expand(*x.shape[:2], -1)


def joint_edits(
    model: Model,
    prompts: Prompts,
    components: Iterable[Component],
    intervention: Intervention,
    *,
    dictionaries: Dictionaries | None = None,
) -> dict[str, Edit]:
    """Edits that replace all components at once in a pass over these prompts; naming one twice changes nothing.

    A feature without a position is replaced at every token but those that frame a row (BOS, [CLS], [SEP]).
    What depends on what stands (features, directions) is computed in that pass, after the replacements below.

    Raises: UnknownHookError; ConfigError for a feature of a hook without a dictionary.
    """
    chosen, known = list(dict.fromkeys(components)), dictionaries or {}
    values = intervention.prepare(model, prompts, chosen, known)(slice(None))

    def edit_at(hook: str) -> Edit:
        own = [component for component in chosen if component.hook == hook]
        return lambda x: _all_written(model, prompts, own, x, values, known.get(hook))

    return {hook: edit_at(hook) for hook in hooks_of(chosen)}


def _all_written(
    model: Model,
    prompts: Prompts,
    components: Sequence[Component],
    x: Tensor,
    values: Values,
    dictionary: FeatureDictionary | None,
) -> Tensor:
    for component in (c for c in components if c.kind != "feature"):
        columns = component.columns(model)
        part = values.part(component, x).to(x)[:, :, columns]
        x = write_part(x, part.expand(*x.shape[:2], -1), columns, prompts.positions(component.position))
    features = [component for component in components if component.kind == "feature"]
    now, places = _activations(dictionary, x, features), dict[Component, Bool[Tensor, "b t"]]()
    for component in features:
        bare, where = component.at(None), _where(model, prompts, component).to(x.device)
        places[bare] = places[bare] | where if bare in places else where
    for component, where in places.items():
        x = x + (_step(component, values, now, dictionary) * where[:, :, None]).to(x)
    return x


def _activations(
    dictionary: FeatureDictionary | None, x: Float[Tensor, "b t d"], features: Sequence[Component]
) -> dict[int, Float[Tensor, "b t"]]:
    if not features:
        return {}
    return feature_values(checked_dictionary(dictionary, features), x, [feature_index(c) for c in features])


def _step(
    component: Component, values: Values, now: Mapping[int, Tensor], dictionary: FeatureDictionary | None
) -> Float[Tensor, "b t d"]:
    """What a feature adds beyond what it adds already."""
    index = feature_index(component)
    ids = torch.tensor([index], device=now[index].device)
    direction = checked_dictionary(dictionary, [component]).directions(ids)[0].detach()
    missing: Tensor = values.feature(component).to(now[index]) - now[index]
    return missing[:, :, None] * direction


def _where(model: Model, prompts: Prompts, feature: Component) -> Bool[Tensor, "b t"]:
    places = prompts.positions(feature.position)
    if places is not None:
        return torch.arange(prompts.token_ids.shape[1]) == places[:, None]
    return spoken(model, prompts)
