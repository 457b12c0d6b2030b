"""Cause and isolation: do an attribute's features carry it from one entity to another, and nothing else?

The features of an attribute are given the values that they have for another entity. Cause: the attribute is then read
as the other entity's. Isolation: another attribute, in which the two differ too, is still read as the entity's own.
Read by how the model goes on where the concept set says how it would ("behaviour"), or by a probe of the changed
activations that was fitted to other entities ("probe"). Only pairs whose unchanged readings are right count.

Axes: n pairs, e rows (entity in a sentence), d width, m features.
Source: Huang et al. 2024 (RAVEL, arXiv 2402.17700).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.code import FeatureDictionary
from interp.models import Model
from probes.benchmark_rows import FEATURES, ORACLE, RANDOM, Row
from probes.concept_activations import FeatureActivations, encode_features
from probes.concepts import EntitySet
from probes.entity_readings import EntityRows, Reader, behaviour_reader, entity_rows, probe_reader
from probes.feature_choice import by_class_spread, matched_random, top_features
from probes.intervals import Score, cluster_interval
from probes.projection import leace_eraser

MEASURE = "RAVEL"
WHOLE = "whole activation"
Reading = Literal["behaviour", "probe"]

_Pairs = tuple[Int[ndarray, " _"], Int[ndarray, " _"]]
"""Rows of the base and rows of the source; every attribute has its own number of them."""

Move = Callable[[str, Int[ndarray, " _"], Int[ndarray, " _"]], Float[Tensor, "_ d"]]
"""An attribute's sentences, rows of the base and of the source in them -> the base's changed activations."""


def disentanglement(
    model: Model,
    entities: EntitySet,
    dictionary: FeatureDictionary,
    *,
    reading: Reading = "behaviour",
    ns: Sequence[int] = (1, 5, 10, 20),
    n_pairs: int = 150,
    seed: int = 0,
) -> list[Row]:
    """Cause, isolation and their mean, for each attribute and number of features; cause alone for a lone attribute.

    Arms beside the features: others that fire as often; the attribute's own direction (oracle, for attributes of two
    values); the whole activation, with which everything goes. With "behaviour" attributes without answers are left to
    the probe.
    """
    rows = {attribute: entity_rows(model, entities, attribute, dictionary.hooks_in) for attribute in entities.templates}
    found = {a: _reader(model, entities, held, dictionary.hooks_in, reading) for a, held in rows.items()}
    readers = {attribute: reader for attribute, reader in found.items() if reader is not None}
    encoded = {attribute: encode_features(dictionary, held.acts) for attribute, held in rows.items()}
    out = []
    for attribute, reader in readers.items():
        others = {other: held for other, held in readers.items() if other != attribute}
        pairs = {a: _pairs(rows[a], attribute, a, readers[a], n_pairs, seed) for a in (attribute, *others)}
        for arm, n, move in _moves(rows, encoded, attribute, ns, seed):
            base, source = pairs[attribute]
            went = reader.read(base, move(attribute, base, source)) == reader.truth[source]
            stayed, kept = _isolation(rows, others, pairs, move)
            concept = f"{entities.name}: {attribute} ({reader.kind})"
            out += _scores(concept, arm, n, (rows[attribute].entity[base], went), (stayed, kept), seed)
    return out


def _reader(
    model: Model, entities: EntitySet, rows: EntityRows, hooks: tuple[str, ...], reading: Reading
) -> Reader | None:
    if reading == "behaviour" and rows.attribute in entities.answers:
        return behaviour_reader(model, rows, entities.answers[rows.attribute], hooks)
    return probe_reader(rows)


def _pairs(
    rows: EntityRows, moved: str, read: str, reader: Reader, n_pairs: int, seed: int
) -> tuple[Int[ndarray, " n"], Int[ndarray, " n"]]:
    """Held-out rows in the same sentence that differ in both attributes and are read rightly as they are."""
    known = np.flatnonzero(rows.heldout & reader.known)
    base, source = (side.ravel() for side in np.meshgrid(known, known, indexing="ij"))
    differ = (rows.values[moved][base] != rows.values[moved][source]) & (
        rows.values[read][base] != rows.values[read][source]
    )
    fits = np.flatnonzero(differ & (rows.template[base] == rows.template[source]))
    drawn = np.sort(np.random.default_rng(seed).permutation(fits)[:n_pairs])
    return base[drawn], source[drawn]


def _moves(
    rows: dict[str, EntityRows], encoded: dict[str, FeatureActivations], attribute: str, ns: Sequence[int], seed: int
) -> Iterator[tuple[str, int | None, Move]]:
    own, features = rows[attribute], encoded[attribute]
    train = np.flatnonzero(~own.heldout)
    n_values = int(own.values[attribute].max()) + 1
    best = top_features(by_class_spread(features, own.values[attribute], train, n_values), max(ns))
    random = matched_random(features.density(~own.heldout), best, seed=seed)
    for arm, held in ((FEATURES, best), (RANDOM, random)):
        for n in ns:
            yield arm, n, _Interchange(rows, encoded, held[:n])
    if n_values == 2:
        eraser = leace_eraser(own.acts[torch.as_tensor(train)].numpy(), own.values[attribute][train] == 0)
        yield (
            ORACLE,
            None,
            lambda a, base, source: torch.as_tensor(
                eraser.moved(_of(rows[a], base).numpy(), _of(rows[a], source).numpy())
            ),
        )
    yield WHOLE, None, lambda a, base, source: _of(rows[a], source)  # noqa: ARG005


def _of(rows: EntityRows, which: Int[ndarray, " n"]) -> Float[Tensor, "n d"]:
    return rows.acts[torch.as_tensor(which)]


@dataclass(frozen=True, slots=True)
class _Interchange:
    """The base's activations with the source's values of the chosen features."""

    rows: dict[str, EntityRows]
    encoded: dict[str, FeatureActivations]
    chosen: Sequence[int]

    def __call__(self, attribute: str, base: Int[ndarray, " n"], source: Int[ndarray, " n"]) -> Float[Tensor, "n d"]:
        features = self.encoded[attribute]
        values = features.columns(self.chosen)
        change = values[torch.as_tensor(source)] - values[torch.as_tensor(base)]
        return _of(self.rows[attribute], base) + change @ features.directions(self.chosen)


_Outcome = tuple[Int[ndarray, " _"], Bool[ndarray, " _"]]
"""Base entity of each pair, and whether it came out as wanted."""


def _isolation(
    rows: dict[str, EntityRows],
    others: dict[str, Reader],
    pairs: dict[str, _Pairs],
    move: Move,
) -> _Outcome:
    """Over the other attributes, each with pairs of its own sentences."""
    entity, kept = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=bool)]
    for other, reader in others.items():
        base, source = pairs[other]
        entity.append(rows[other].entity[base])
        kept.append(reader.read(base, move(other, base, source)) == reader.truth[base])
    return np.concatenate(entity), np.concatenate(kept)


def _scores(concept: str, arm: str, n: int | None, cause: _Outcome, isolation: _Outcome, seed: int) -> list[Row]:
    clusters = np.concatenate([cause[0], isolation[0]])
    values = np.concatenate([cause[1], isolation[1]]).astype(np.float64)
    first = np.arange(values.size) < cause[1].size

    def part(weights: Float[ndarray, " n"], chosen: Bool[ndarray, " n"]) -> float:
        total = float(weights[chosen].sum())
        return float(weights[chosen] @ values[chosen]) / total if total > 0 else float("nan")

    def score(statistic: Callable[[Float[ndarray, " n"]], float]) -> Score:
        return cluster_interval(statistic, clusters, seed=seed)

    if first.all():
        return [Row(MEASURE, concept, "cause", arm, n, score(lambda weights: part(weights, first)))]
    found = {
        "cause": score(lambda weights: part(weights, first)),
        "isolation": score(lambda weights: part(weights, ~first)),
        "disentangle": score(lambda weights: (part(weights, first) + part(weights, ~first)) / 2),
    }
    return [Row(MEASURE, concept, quantity, arm, n, figure) for quantity, figure in found.items()]
