"""What a probe is to be read against: the commonest class, the tokens themselves, and a task that only memory solves.

Axes: n examples, c classes, v vocabulary of the training side.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import csr_array

from probes.intervals import Score, cluster_interval, mean_of
from probes.linear import fit_logistic_path
from probes.probe_activations import ProbeData
from probes.probe_tasks import Inner, ProbeTask


def control_labels(
    word: Int[ndarray, " n"], y: Int[ndarray, " m"], *, n_classes: int, seed: int = 0
) -> Int[ndarray, " n"]:
    """For every word one class, drawn from how often the classes are in `y`; the same wherever the word stands.

    What predicts it has learned the words by heart: nothing in the text tells.
    Shapes: word (n,) numbers of the words, of the places that get a label; y (m,) answers to the task, of any places.
    Source: Hewitt & Liang 2019 (arXiv 1909.03368), section 2.
    """
    frequency = np.bincount(y, minlength=n_classes) / y.size
    drawn = np.random.default_rng(seed).choice(n_classes, size=int(word.max()) + 1, p=frequency)
    return np.asarray(drawn[word])


_COUNT_CS = (0.1, 1.0, 10.0, 100.0)
"""The regularisation path of counts, which are few and not standardised."""


@dataclass(frozen=True, slots=True)
class Selectivity:
    """Held-out accuracy on the task, on its control, and the difference on the same examples.

    Source: Hewitt & Liang 2019 (arXiv 1909.03368).
    """

    accuracy: Score
    control: Score
    selectivity: Score


def selectivity(
    task: Float[ndarray, " n"], control: Float[ndarray, " n"], clusters: Int[ndarray, " n"], *, seed: int = 0
) -> Selectivity:
    """From which held-out answers are right, task and control; all intervals draw the same clusters."""
    return Selectivity(
        *(cluster_interval(mean_of(each), clusters, seed=seed) for each in (task, control, task - control))
    )


def task_control(data: ProbeData, task: ProbeTask, *, seed: int = 0) -> Int[ndarray, " n"]:
    """The control labels of every place, drawn from the training frequencies of the task's classes."""
    return control_labels(data.word, task.y[task.train], n_classes=len(task.classes), seed=seed)


def majority_right(task: ProbeTask) -> Float[ndarray, " k"]:
    """Which held-out answers the commonest training class gets right."""
    commonest = int(np.bincount(task.y[task.train]).argmax())
    return np.asarray(task.y[task.test] == commonest, dtype=np.float64)


def token_right(data: ProbeData, task: ProbeTask, inner: Inner) -> Float[ndarray, " k"]:
    """Which held-out answers a logistic probe of the tokens alone gets right.

    It counts the tokens of the word, and apart from them those of its text that the model sees beside it; or the word's
    alone, where the training documents that are left out to choose by are better foretold so.
    """
    fits = []
    for around in (True, False):
        x, held_out = token_counts(data, task, around=around)
        fit = fit_logistic_path(
            x, task.y[task.train], inner, n_classes=len(task.classes), cs=_COUNT_CS, standardise=False
        )
        fits.append((min(fit.validation_nats), fit.probe.right(held_out, task.y[task.test])))
    return min(fits, key=lambda fit: fit[0])[1]


def token_counts(data: ProbeData, task: ProbeTask, *, around: bool = True) -> tuple[csr_array, csr_array]:
    """Counts of training tokens in each example, of the training side and of the held-out one.

    `around`: count the tokens beside the word as well, apart from the word's own.
    """
    slots: dict[tuple[bool, int], int] = {}
    for row in task.train.tolist():
        for token in _tokens(data, row, around):
            slots.setdefault(token, len(slots))
    return _counted(data, task.train, slots, around), _counted(data, task.test, slots, around)


def _tokens(data: ProbeData, row: int, around: bool) -> Iterator[tuple[bool, int]]:
    yield from ((True, token) for token in data.own[row])
    if around:
        yield from ((False, token) for token in data.around[row])


def _counted(data: ProbeData, rows: Int[ndarray, " m"], slots: dict[tuple[bool, int], int], around: bool) -> csr_array:
    pairs = [
        (index, slots[token])
        for index, row in enumerate(rows.tolist())
        for token in _tokens(data, row, around)
        if token in slots
    ]
    at = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return csr_array((np.ones(at.shape[0]), (at[:, 0], at[:, 1])), shape=(rows.size, len(slots)))
