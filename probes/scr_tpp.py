"""Spurious correlation removal and targeted probe perturbation: is a concept's direction held by features of its own?

Both take out the features of a concept, leaving the reconstruction's error in place, and look at probes. Their figures
move much between seeds of one SAE (arXiv 2605.18229): read them over seeds, beside the oracle and random features.

Axes: n examples, c classes.
Source: Marks et al. 2024 (SHIFT, arXiv 2403.19647); Karvonen et al. 2025 (SAEBench, arXiv 2503.09532).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from probes.benchmark_rows import FEATURES, ORACLE, RANDOM, Row
from probes.concept_activations import ConceptActivations, FeatureActivations
from probes.concept_tasks import BinaryTask, balanced
from probes.feature_choice import by_attribution, matched_random, top_features
from probes.intervals import Score, cluster_interval
from probes.logistic import LogisticProbe, fit_logistic
from probes.projection import leace_eraser

SCR, TPP = "SCR", "TPP"
LEAST_GAP = 0.02
"""Accuracy that a biased probe must lose for its repair to be measured: a ratio to less says nothing."""

Ablation = Callable[[Float[ndarray, "n d"], Int[ndarray, " n"]], Float[ndarray, "n d"]]
"""Activations and which examples of the set they are -> activations without something."""


def ablations(
    task: BinaryTask, features: FeatureActivations, *, ns: Sequence[int], seed: int = 0
) -> list[tuple[str, int | None, Ablation]]:
    """Ways to take the task's concept out: its n features, as many random ones, and its own direction (LEACE).

    Features are those that bring most of the difference along the direction of a probe of the concept.
    """
    x, y = task.x("train"), task.answers("train")
    direction = fit_logistic(x, y).weight
    best = top_features(by_attribution(features, task.y, task.train, direction), max(ns))
    trained = np.zeros(task.y.shape, dtype=bool)
    trained[task.train] = True
    other = matched_random(features.density(trained), best, seed=seed)
    erase = leace_eraser(x, y)
    made: list[tuple[str, int | None, Ablation]] = [
        (arm, n, without_features(features, held[:n])) for arm, held in ((FEATURES, best), (RANDOM, other)) for n in ns
    ]
    return [*made, (ORACLE, None, lambda x, _: erase(x))]


def without_features(features: FeatureActivations, chosen: Sequence[int]) -> Ablation:
    """Takes out what the chosen features add."""

    def ablate(x: Float[ndarray, "n d"], rows: Int[ndarray, " n"]) -> Float[ndarray, "n d"]:
        return features.without(torch.as_tensor(x), chosen, rows=rows).numpy()

    return ablate


def scr_score(base: float, ablated: float, oracle: float) -> float:
    """(A_abl - A_base) / (A_oracle - A_base); NaN where the probe had too little to repair."""
    return (ablated - base) / (oracle - base) if oracle - base >= LEAST_GAP else math.nan


def scr(
    data: ConceptActivations,
    features: FeatureActivations,
    target: str,
    spurious: str,
    *,
    ns: Sequence[int] = (1, 5, 10),
    seed: int = 0,
) -> list[Row]:
    """How far taking out the spurious attribute's features repairs a probe that learned from biased examples.

    In the biased examples the two attributes (of two classes each) always go together; accuracies are of held-out
    examples with all four combinations equally often. The repair of 1 is a probe trained on such examples.
    """
    both = _Crossed(data, target, spurious, seed)
    if both.too_few:
        return []
    biased = fit_logistic(both.acts(both.biased), both.y[both.biased])
    fair = fit_logistic(both.acts(both.train), both.y[both.train])
    x, y = both.acts(both.test), both.y[both.test]
    base, best = biased.correct(x, y), fair.correct(x, y)
    cause = BinaryTask(spurious, data, spurious, 0, both.z, both.train, both.test)
    concept = f"{data.name}: {target} without {spurious}"
    rows = []
    for arm, n, ablate in ablations(cause, features, ns=ns, seed=seed):
        ablated = biased.correct(ablate(x, both.test), y)
        score = cluster_interval(_ratio(base, ablated, best), data.word[both.test], seed=seed)
        rows.append(Row(SCR, concept, "repair", arm, n, score))
    return rows


def _ratio(
    base: Float[ndarray, " n"], ablated: Float[ndarray, " n"], oracle: Float[ndarray, " n"]
) -> Callable[[Float[ndarray, " n"]], float]:
    def statistic(weights: Float[ndarray, " n"]) -> float:
        means = [float(weights @ right) / float(weights.sum()) for right in (base, ablated, oracle)]
        return scr_score(*means)

    return statistic


class _Crossed:
    """Examples by two attributes of two classes: biased ones, and balanced ones of either side."""

    def __init__(self, data: ConceptActivations, target: str, spurious: str, seed: int) -> None:
        self._data = data
        self.y, self.z = data.labels[target] == 0, data.labels[spurious] == 0
        cells = 2 * self.y.astype(int) + self.z
        self.train, self.test = (_even(data.rows(side), cells, 4, seed) for side in ("train", "test"))
        same = data.rows("train")[(self.y == self.z)[data.rows("train")]]
        self.biased = balanced(same, self.y, seed=seed)

    @property
    def too_few(self) -> bool:
        return min(self.train.size, self.test.size, self.biased.size) < 16

    def acts(self, rows: Int[ndarray, " m"]) -> Float[ndarray, "m d"]:
        return self._data.acts[torch.as_tensor(rows)].numpy()


def _even(rows: Int[ndarray, " n"], cells: Int[ndarray, " m"], n_cells: int, seed: int) -> Int[ndarray, " k"]:
    """As many rows of every cell, drawn by seed."""
    draw = np.random.default_rng(seed)
    held = [draw.permutation(rows[cells[rows] == cell]) for cell in range(n_cells)]
    n = min(part.size for part in held)
    return np.sort(np.concatenate([part[:n] for part in held]))


def tpp_score(before: Sequence[float], after: Float[ndarray, "c c"]) -> float:
    """mean_i[(A_i - A_ii) - mean_{j≠i}(A_j - A_ij)]; after[i, j] is probe j's accuracy without class i's features."""
    drop = np.asarray(before)[None, :] - after
    own = np.diag(drop)
    others = (drop.sum(1) - own) / (drop.shape[0] - 1)
    return float((own - others).mean())


def tpp(
    tasks: Sequence[BinaryTask], features: FeatureActivations, *, ns: Sequence[int] = (1, 5, 10), seed: int = 0
) -> list[Row]:
    """How much more taking out a class's features costs the probe of that class than the probes of the others.

    `tasks` are those of one attribute, one for each class. Also the two parts: what it costs the class's own probe, and
    the others'.
    """
    if len(tasks) < 2:
        return []
    probes = [fit_logistic(task.x("train"), task.answers("train")) for task in tasks]
    before = [probe.correct(task.x("test"), task.answers("test")) for probe, task in zip(probes, tasks, strict=True)]
    made = [ablations(task, features, ns=ns, seed=seed) for task in tasks]
    concept = f"{tasks[0].data.name}: {tasks[0].attribute}"
    _, numbers = np.unique(np.concatenate([task.test_words for task in tasks]), return_inverse=True)
    word = np.split(numbers, np.cumsum([task.test.size for task in tasks])[:-1])
    rows = []
    for arms in zip(*made, strict=True):
        after = [
            [_right(probe, task, ablate) for probe, task in zip(probes, tasks, strict=True)] for _, _, ablate in arms
        ]
        rows += _tpp_rows(concept, arms[0][0], arms[0][1], _Perturbed(word, before, after), seed)
    return rows


def _right(probe: LogisticProbe, task: BinaryTask, ablate: Ablation) -> Float[ndarray, " m"]:
    return probe.correct(ablate(task.x("test"), task.test), task.answers("test"))


@dataclass(frozen=True, slots=True)
class _Perturbed:
    """Which answers were right before, and after taking out each class (first index), by every probe (second).

    `word`: the number of each held-out example's word, per task.
    """

    word: Sequence[Int[ndarray, " m"]]
    before: Sequence[Float[ndarray, " m"]]
    after: Sequence[Sequence[Float[ndarray, " m"]]]

    def parts(self, weights: Float[ndarray, " w"]) -> tuple[float, float, float]:
        """The score, what a class's own probe loses, what the others lose, with every word weighing as given."""
        each = [weights[word] for word in self.word]
        totals = [max(float(weight.sum()), 1e-12) for weight in each]
        before = [float(w @ right) / t for w, right, t in zip(each, self.before, totals, strict=True)]
        after = np.array([[float(w @ r) / t for w, r, t in zip(each, row, totals, strict=True)] for row in self.after])
        own = float((np.asarray(before) - np.diag(after)).mean())
        total = tpp_score(before, after)
        return total, own, own - total


def _tpp_rows(concept: str, arm: str, n: int | None, perturbed: _Perturbed, seed: int) -> list[Row]:
    words = np.arange(max(int(word.max()) for word in perturbed.word) + 1)

    def score_of(index: int) -> Score:
        return cluster_interval(lambda weights: perturbed.parts(weights)[index], words, seed=seed)

    names = ("own minus others", "own probe's loss", "others' loss")
    return [Row(TPP, concept, name, arm, n, score_of(index)) for index, name in enumerate(names)]
