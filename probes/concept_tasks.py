"""Yes-or-no questions about a concept set, balanced, split by word.

Axes: n examples of the set, m examples of the task.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from probes.concept_activations import ConceptActivations
from probes.concepts import Side


@dataclass(frozen=True, slots=True)
class BinaryTask:
    """Is it of this class? Examples of each side in equal numbers of yes and no.

    Shapes: train (m,), test (k,) rows of the set; y (n,) the answer for every example of the set.
    """

    name: str
    data: ConceptActivations
    attribute: str
    positive: int
    y: Bool[ndarray, " n"]
    train: Int[ndarray, " m"]
    test: Int[ndarray, " k"]

    def x(self, side: Side, acts: Float[Tensor, "n d"] | None = None) -> Float[ndarray, "m d"]:
        """Activations of one side, or other inputs of the same examples."""
        source = self.data.acts if acts is None else acts
        return np.asarray(source[torch.as_tensor(self.rows(side))])

    def rows(self, side: Side) -> Int[ndarray, " m"]:
        """Which examples of the set."""
        return self.train if side == "train" else self.test

    def answers(self, side: Side) -> Bool[ndarray, " m"]:
        """The answers of one side."""
        return np.asarray(self.y[self.rows(side)])

    @property
    def test_words(self) -> Int[ndarray, " m"]:
        """Clusters of the held-out examples."""
        return np.asarray(self.data.word[self.test])


def tasks_of(data: ConceptActivations, *, seed: int = 0, least: int = 4) -> list[BinaryTask]:
    """One task for an attribute of two classes, one for each class of others; none where a side lacks either answer."""
    return list(_iter_tasks(data, seed, least))


def _iter_tasks(data: ConceptActivations, seed: int, least: int) -> Iterator[BinaryTask]:
    for attribute, classes in data.attributes.items():
        two = len(classes) == 2
        for positive in (0,) if two else range(len(classes)):
            y = data.labels[attribute] == positive
            name = attribute if two else f"{attribute} {classes[positive]}"
            train, test = (balanced(data.rows(side), y, seed=seed) for side in ("train", "test"))
            if min(train.size, test.size) >= 2 * least:
                yield BinaryTask(name, data, attribute, positive, y, train, test)


def balanced(rows: Int[ndarray, " n"], y: Bool[ndarray, " m"], *, seed: int) -> Int[ndarray, " k"]:
    """As many rows with yes as with no, drawn by seed."""
    draw = np.random.default_rng(seed)
    sides = [rows[y[rows] == answer] for answer in (True, False)]
    n = min(side.size for side in sides)
    return np.sort(np.concatenate([draw.permutation(side)[:n] for side in sides]))


def main_tasks(tasks: Sequence[BinaryTask], *, per_attribute: int = 1) -> list[BinaryTask]:
    """The first tasks of each attribute of each set: what is measured where every task would take too long."""
    kept: dict[tuple[str, str], list[BinaryTask]] = {}
    for task in tasks:
        kept.setdefault((task.data.name, task.attribute), []).append(task)
    return [task for held in kept.values() for task in held[:per_attribute]]
