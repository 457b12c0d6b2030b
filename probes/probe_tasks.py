"""One attribute under one split: what is trained on, what is held out, and how far the two are apart.

Axes: n labelled places of the data, m examples of the task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from interp.overlap import verbatim_overlap
from probes.probe_activations import ProbeData
from probes.probe_labels import LabelledText

Split = Literal["document", "word"]
SPLITS: tuple[Split, ...] = ("document", "word")
LEAST = 8
"""Fewest examples of a class on each side."""


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """Which class of an attribute? Rows of the data on both sides of a split.

    split "document": held-out documents. "word": held-out words in held-out documents; training words in training
    documents; all other places are on neither side.
    Shapes: y (n,), index into `classes` or -1; train (m,), test (k,) rows of the data.
    """

    attribute: str
    split: Split
    classes: tuple[str, ...]
    y: Int[ndarray, " n"]
    train: Int[ndarray, " m"]
    test: Int[ndarray, " k"]
    dropped: Mapping[str, int]

    @property
    def name(self) -> str:
        return f"{self.attribute}, held out by {self.split}"


def task_of(data: ProbeData, attribute: str, split: Split, *, least: int = LEAST) -> ProbeTask | None:
    """The task, with the classes that have `least` examples on each side; None if fewer than two have.

    `dropped`: examples of the other classes, on either side.
    """
    label = data.labels[attribute]
    held = data.document_held_out, data.word_held_out
    on_train = (label >= 0) & ~held[0] & (~held[1] if split == "word" else True)
    on_test = (label >= 0) & held[0] & (held[1] if split == "word" else True)
    n = len(data.classes[attribute])
    counts = np.stack([np.bincount(label[side], minlength=n) for side in (on_train, on_test)])
    kept = np.flatnonzero(counts.min(0) >= least)
    if kept.size < 2:
        return None
    slot = np.full(n + 1, -1)
    slot[kept] = np.arange(kept.size)
    y = slot[label]
    classes = data.classes[attribute]
    return ProbeTask(
        attribute=attribute,
        split=split,
        classes=tuple(classes[index] for index in kept),
        y=y,
        train=np.flatnonzero(on_train & (y >= 0)),
        test=np.flatnonzero(on_test & (y >= 0)),
        dropped={classes[i]: int(counts[:, i].sum()) for i in range(n) if i not in kept and counts[:, i].sum()},
    )


@dataclass(frozen=True, slots=True)
class Inner:
    """The split inside the training examples that a regularisation is chosen by.

    Shapes: fit, validate (m,), disjoint; under the split by word some examples are on neither side.
    """

    fit: Bool[ndarray, " m"]
    validate: Bool[ndarray, " m"]


def inner_split(data: ProbeData, task: ProbeTask, *, share: float = 0.3, seed: int = 0) -> Inner:
    """Whole documents apart, drawn by seed; under the split by word whole words as well, as in the outer split.

    Classes that are not fitted are not chosen by either.
    """
    draw, label = np.random.default_rng(seed), task.y[task.train]
    fit = ~_drawn(data.document[task.train], share, draw)
    validate = ~fit
    if task.split == "word":
        of_word = _drawn(data.word[task.train], share, draw)
        fit, validate = fit & ~of_word, validate & of_word
    return Inner(fit, validate & np.isin(label, label[fit]))


def _drawn(unit: Int[ndarray, " m"], share: float, draw: np.random.Generator) -> Bool[ndarray, " m"]:
    """Examples of a share of the units."""
    units = np.unique(unit)
    return np.isin(unit, draw.permutation(units)[: max(1, round(share * units.size))])


def overlap(data: ProbeData, texts: Sequence[LabelledText], task: ProbeTask) -> dict[str, Any]:
    """What the two sides share, counted: documents, words, held-out examples with a trained word, runs of 13 words.

    Documents are none under either split, words none under the split by word.
    """
    train, test = task.train, task.test
    known = np.isin(data.word[test], data.word[train])
    sides = [[texts[row].text for row in np.unique(data.text[side])] for side in (test, train)]
    verbatim = verbatim_overlap(*sides)
    return {
        "n_train": int(train.size),
        "n_test": int(test.size),
        "n_train_documents": int(np.unique(data.document[train]).size),
        "n_test_documents": int(np.unique(data.document[test]).size),
        "n_train_words": int(np.unique(data.word[train]).size),
        "n_test_words": int(np.unique(data.word[test]).size),
        "n_shared_documents": int(np.intersect1d(data.document[train], data.document[test]).size),
        "n_shared_words": int(np.intersect1d(data.word[train], data.word[test]).size),
        "share_of_test_with_a_trained_word": float(known.mean()),
        "share_of_test_13_grams_in_training": verbatim.ngram_share,
        "dropped_classes": dict(task.dropped),
    }
