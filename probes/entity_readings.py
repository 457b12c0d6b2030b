"""Entities in sentences, and what their attributes are read as: by how the model goes on, or by a probe.

Axes: e rows (an entity in a sentence), n chosen rows, d width of the hooks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.errors import ConfigError
from interp.hooks import edit
from interp.models import Model
from probes.concept_activations import PlacedRow, activations_at, iter_placed, place_text
from probes.concepts import EntitySet
from probes.logistic import fit_logistic


@dataclass(frozen=True, slots=True)
class EntityRows:
    """Every entity in every sentence that asks for one attribute.

    Shapes: entity, template, heldout (e,); values[attribute] (e,) numbers of the values, of every attribute; acts
    (e, d) at the entity's last token.
    """

    attribute: str
    placed: list[PlacedRow]
    acts: Float[Tensor, "e d"]
    entity: Int[ndarray, " e"]
    template: Int[ndarray, " e"]
    values: dict[str, Int[ndarray, " e"]]
    value_names: tuple[str, ...]
    heldout: Bool[ndarray, " e"]


@dataclass(frozen=True, slots=True)
class Reader:
    """What an attribute is read as.

    Shapes: truth (e,) what a right reading of each row gives; known (e,) whether that is what it gives unchanged.
    read(rows, acts): of those rows, with those activations in place of their own; acts (n, d).
    """

    kind: str
    truth: Int[ndarray, " e"]
    known: Bool[ndarray, " e"]
    read: Callable[[Int[ndarray, " _"], Float[Tensor, "_ d"]], Int[ndarray, " _"]]


def entity_rows(model: Model, entities: EntitySet, attribute: str, hooks: Sequence[str]) -> EntityRows:
    """The sentences of one attribute, as the model sees them."""
    names, templates = list(entities.entities), entities.templates[attribute]
    cells = [(entity, template) for template in range(len(templates)) for entity in range(len(names))]
    placed = [_placed(model, templates[template], names[entity], entities.name) for entity, template in cells]
    numbers = {}
    for each in entities.templates:
        known = sorted({held[each] for held in entities.entities.values()})
        numbers[each] = known
    values = {
        each: np.array([known.index(entities.entities[names[entity]][each]) for entity, _ in cells])
        for each, known in numbers.items()
    }
    return EntityRows(
        attribute,
        placed,
        activations_at(model, placed, hooks),
        entity=np.array([entity for entity, _ in cells]),
        template=np.array([template for _, template in cells]),
        values=values,
        value_names=tuple(numbers[attribute]),
        heldout=np.array([entities.side(names[entity]) == "test" for entity, _ in cells]),
    )


def behaviour_reader(model: Model, rows: EntityRows, answers: Mapping[str, str], hooks: Sequence[str]) -> Reader:
    """Which answer the model finds likeliest, by its first token; values whose answers begin alike are one.

    Raises: ConfigError for an encoder, which does not go on, or several hooks.
    """
    if not model.causal or len(hooks) != 1:
        raise ConfigError(
            f"got {model.name} at {', '.join(hooks)}; reading behaviour takes a causal model and one hook"
        )
    first = [model.tokenizer(answers[value], add_special_tokens=False)["input_ids"][0] for value in rows.value_names]
    tokens, number = np.unique(first, return_inverse=True)

    def read(which: Int[ndarray, " n"], acts: Float[Tensor, "n d"]) -> Int[ndarray, " n"]:
        return _likeliest(model, [rows.placed[index] for index in which], hooks[0], acts, torch.as_tensor(tokens))

    truth = number[rows.values[rows.attribute]]
    every = np.arange(len(rows.placed))
    return Reader("behaviour", truth, read(every, rows.acts) == truth, read)


def probe_reader(rows: EntityRows) -> Reader | None:
    """The value that a logistic probe, fitted to the entities that are not held out, finds likeliest.

    None where the entities held out have values that the others have not: no probe knows those.
    """
    truth, train = rows.values[rows.attribute], np.flatnonzero(~rows.heldout)
    seen = sorted(set(truth[train].tolist()))
    if len(seen) < 2 or not set(truth[rows.heldout].tolist()) <= set(seen):
        return None
    x = rows.acts.numpy()
    probes = [fit_logistic(x[train], truth[train] == value) for value in (seen[:1] if len(seen) == 2 else seen)]

    def read(_: Int[ndarray, " n"], acts: Float[Tensor, "n d"]) -> Int[ndarray, " n"]:
        scores = np.stack([probe.score(acts.numpy()) for probe in probes], axis=1)
        best = np.where(scores[:, 0] > 0, 0, 1) if len(seen) == 2 else scores.argmax(1)
        return np.asarray(seen)[best]

    return Reader("probe", truth, read(np.arange(truth.size), rows.acts) == truth, read)


def _placed(model: Model, template: str, entity: str, where: str) -> PlacedRow:
    start = template.index("%s")
    return place_text(model, template.replace("%s", entity), (start, start + len(entity)), where)


@torch.no_grad()
def _likeliest(
    model: Model, rows: Sequence[PlacedRow], hook: str, acts: Float[Tensor, "n d"], tokens: Int[Tensor, " a"]
) -> Int[ndarray, " n"]:
    """Number of the likeliest of `tokens` after each row, with the row's activation at its place replaced."""
    found = [np.zeros(0, dtype=np.int64)]
    for part, token_ids, mask, place in iter_placed(model, rows):
        each = torch.arange(token_ids.shape[0])
        change = _Replace(each, place, acts[part])
        with edit(model, {hook: change}):
            logits = model.hf(input_ids=token_ids.to(model.device), use_cache=False).logits
        last = logits[each.to(logits.device), (mask.sum(1) - 1).to(logits.device)].cpu()
        found.append(last[:, tokens].argmax(1).numpy())
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class _Replace:
    each: Tensor
    place: Tensor
    acts: Tensor

    def __call__(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x[self.each.to(x.device), self.place.to(x.device)] = self.acts.to(x)
        return x
