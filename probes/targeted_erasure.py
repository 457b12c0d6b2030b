"""Targeted erasure: what taking out a concept's features does to that concept, to others, and to the model.

Source: Karvonen et al. 2025 (SAEBench, arXiv 2503.09532), section on unlearning, with probes trained anew: a probe
fitted before erasure may only have lost the one direction that it knew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from interp.code import FeatureDictionary
from probes.benchmark_rows import FEATURES, ORACLE, RANDOM, Row
from probes.concept_activations import FeatureActivations
from probes.concept_tasks import BinaryTask
from probes.feature_choice import by_attribution, matched_random, top_features
from probes.intervals import Score, cluster_interval, mean_of
from probes.logistic import fit_logistic
from probes.projection import Eraser, leace_eraser
from probes.text_cost import Change, TextCosts

MEASURE = "targeted erasure"
NS = (1, 2, 5, 10)

_Erase = Callable[[BinaryTask], Float[ndarray, "n d"]]
"""A task -> the activations of all of its set's examples, without the concept."""


def targeted_erasure(
    task: BinaryTask,
    features: dict[str, FeatureActivations],
    others: Sequence[BinaryTask],
    *,
    text: TextCosts | None = None,
    ns: Sequence[int] = NS,
    seed: int = 0,
) -> list[Row]:
    """Loss of held-out accuracy of probes trained anew: for the concept, and on average for `others`.

    `features` of each concept set by its name, all of one dictionary. With `text` also what the erasure costs the model
    there. Arms: the n features that bring most along the concept's probe, others that fire as often, the concept's own
    direction (LEACE).
    Units: accuracy, nats per token.
    """
    before = {_name(each): _right(each, each.data.acts.numpy()) for each in (task, *others)}
    rows = []
    for arm, n, erase, change in _arms(task, features, ns, seed):
        lost = _loss(task, erase, before, seed)
        rows.append(Row(MEASURE, _name(task), "concept's loss", arm, n, lost))
        if others:
            # Over other concepts the mean is what counts; each is an experiment of its own, so no words are pooled.
            losses = [float((before[_name(other)] - _right(other, erase(other))).mean()) for other in others]
            rows.append(Row(MEASURE, _name(task), "others' loss", arm, n, Score(fmean(losses))))
        if text is not None:
            cost = text.of(change, seed=seed)
            rows.append(Row(MEASURE, _name(task), "ΔCE", arm, n, cost.delta_ce))
            rows.append(Row(MEASURE, _name(task), "KL", arm, n, cost.kl))
    return rows


def _arms(
    task: BinaryTask, features: dict[str, FeatureActivations], ns: Sequence[int], seed: int
) -> Iterator[tuple[str, int | None, _Erase, Change]]:
    own = features[task.data.name]
    x, y = task.x("train"), task.answers("train")
    best = top_features(by_attribution(own, task.y, task.train, fit_logistic(x, y).weight), max(ns))
    trained = np.zeros(task.y.shape, dtype=bool)
    trained[task.train] = True
    for arm, held in ((FEATURES, best), (RANDOM, matched_random(own.density(trained), best, seed=seed))):
        for n in ns:
            yield arm, n, _Without(features, held[:n]), taking_out(own.dictionary, held[:n])
    eraser = leace_eraser(x, y)
    yield ORACLE, None, lambda other: eraser(other.data.acts.numpy()), lambda x: _erased(eraser, x)


@dataclass(frozen=True, slots=True)
class _Without:
    features: dict[str, FeatureActivations]
    chosen: Sequence[int]

    def __call__(self, task: BinaryTask) -> Float[ndarray, "n d"]:
        return self.features[task.data.name].without(task.data.acts, self.chosen).numpy()


def taking_out(dictionary: FeatureDictionary, chosen: Sequence[int]) -> Change:
    """Takes what the chosen features add out of activations; the reconstruction's error stays."""

    @torch.no_grad()
    def change(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        wanted = torch.tensor(list(chosen), dtype=torch.int64, device=x.device)
        code = dictionary.encode(x)
        part = code.keep(torch.isin(code.features.long(), wanted))
        added = dictionary.directions(part.features.long()) * part.values[:, None]
        return x.index_add(0, part.rows(), -added.to(x))

    return change


def _erased(eraser: Eraser, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.as_tensor(eraser(x.cpu().numpy()), device=x.device)


def _loss(task: BinaryTask, erase: _Erase, before: dict[str, Float[ndarray, " m"]], seed: int) -> Score:
    """Held-out accuracy before less that after."""
    lost = before[_name(task)] - _right(task, erase(task))
    return cluster_interval(mean_of(lost), task.test_words, seed=seed)


def _right(task: BinaryTask, acts: Float[ndarray, "n d"]) -> Float[ndarray, " m"]:
    """Which held-out answers a probe gets right that is trained on these activations."""
    probe = fit_logistic(acts[task.train], task.answers("train"))
    return probe.correct(acts[task.test], task.answers("test"))


def _name(task: BinaryTask) -> str:
    return f"{task.data.name}: {task.name}"
