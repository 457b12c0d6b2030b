"""Codes and neurons as detectors of a set of tokens, at the same recall.

Chosen on one half of the documents, judged on the other: the best of thousands looks good where it was chosen.

Axes: n tokens, c codes, p classes of tokens, m neurons.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from interp.codebooks.inspection import contingency
from interp.codebooks.names import CodeName
from interp.codebooks.record import CodeRecord

LEAST_RECALL = 0.01
"""A code must find more of a class than this to be its detector (Tamkin et al. 2023)."""
LEAST_FIRINGS = 10
"""On words that are rare a code must also be active so often: one that is active once is right by luck."""


@dataclass(frozen=True, slots=True)
class Detector:
    """How one unit tells a class of tokens, on documents that it was not chosen on; `n_positives` are those there.

    Without any there, precision and recall are not measured: None. A unit that never fires there has precision 0.
    """

    unit: str
    precision: float | None
    recall: float | None
    n_positives: int


@dataclass(frozen=True, slots=True)
class Detected:
    """The best code for a class, and the best neuron at the code's recall; None where nothing reaches it."""

    label: str
    code: Detector | None
    neuron: Detector | None


def halves(record: CodeRecord) -> tuple[Bool[ndarray, " n"], Bool[ndarray, " n"]]:
    """Tokens of even and of odd documents, counted in order of appearance."""
    _, member = np.unique(record.document, return_inverse=True)
    return member % 2 == 0, member % 2 == 1


Neurons = Mapping[str, ndarray] | Iterable[tuple[str, ndarray]]
"""Activations (n, m) by hook, at once or hook by hook."""


def best_codes(
    record: CodeRecord,
    labels: Int[ndarray, " n"],
    names: Sequence[str],
    neurons: Neurons | None = None,
    *,
    least_firings: int = 1,
) -> tuple[Detected, ...]:
    """For each class the code of highest precision, and the neuron that is most precise at the recall of that code.

    `labels` number the classes, below zero for none; of neurons either sign counts. Both kinds are chosen, and neurons
    thresholded, on even documents, and judged on odd ones.
    """
    return best_codes_of(record, [(labels, names)], neurons, least_firings=least_firings)


def best_codes_of(
    record: CodeRecord,
    tasks: Sequence[tuple[Int[ndarray, " n"], Sequence[str]]],
    neurons: Neurons | None = None,
    *,
    least_firings: int = 1,
) -> tuple[Detected, ...]:
    """`best_codes` for several labellings, (labels, names), one after the other, in one walk over the neurons."""
    fit, judge = halves(record)
    found: list[Detected] = []
    wanted: dict[int, tuple[ndarray, float]] = {}
    for labels, names in tasks:
        for label, (name, own) in enumerate(
            zip(names, _chosen_codes(record, labels, fit, len(names), least_firings), strict=True)
        ):
            code = None
            if own is not None:
                wanted[len(found)] = here, _ = labels == label, own[1]
                active = (record.book(own[0].hook, own[0].group).ids == own[0].code).any(1)
                code = _judged(str(own[0]), active, here, judge)
            found.append(Detected(name, code, None))
    best: dict[int, tuple[float, Detector]] = {}
    for hook, acts in neurons.items() if isinstance(neurons, Mapping) else neurons or ():
        rivals = _Rivals(hook, acts, fit)
        for index, (here, recall) in wanted.items():
            rival = rivals.best(here, fit, judge, recall)
            if index not in best or rival[0] > best[index][0]:
                best[index] = rival
    return tuple(replace(one, neuron=best[at][1]) if at in best else one for at, one in enumerate(found))


def _chosen_codes(
    record: CodeRecord, labels: ndarray, fit: ndarray, n_classes: int, least_firings: int
) -> list[tuple[CodeName, float] | None]:
    """The most precise code of each class and its recall, where it was chosen."""
    totals = np.bincount(labels[fit & (labels >= 0)], minlength=n_classes)
    best: list[tuple[float, float, CodeName] | None] = [None] * n_classes
    where = np.where(fit, labels, -1)
    for book in record.books:
        table = contingency(book, where, n_classes)
        fires = np.bincount(book.ids[fit].ravel(), minlength=book.n_codes)
        precision = table / np.maximum(fires, 1)[:, None]
        recall = table / np.maximum(totals, 1)
        precision[recall <= LEAST_RECALL] = -1
        precision[fires < least_firings] = -1
        for label in range(n_classes):
            # Of equally precise codes the one that finds more.
            code = int(np.lexsort((-recall[:, label], -precision[:, label]))[0])
            score = (float(precision[code, label]), float(recall[code, label]))
            held = best[label]
            if score[0] >= 0 and (held is None or score > held[:2]):
                best[label] = (*score, book.code(code))
    return [None if one is None else (one[2], one[1]) for one in best]


def _judged(unit: str, active: ndarray, wanted: ndarray, judge: ndarray) -> Detector:
    hits, fires, total = (int(x[judge].sum()) for x in (active & wanted, active, wanted))
    if not total:
        return Detector(unit, None, None, 0)
    return Detector(unit, hits / max(fires, 1), hits / total, total)


class _Rivals:
    """The neurons of one hook, either sign of each."""

    def __init__(self, hook: str, acts: Float[ndarray, "n m"], fit: Bool[ndarray, " n"]) -> None:
        self.hook, self.acts = hook, acts
        self._sorted = acts[fit]
        self._sorted.sort(axis=0)

    def best(self, wanted: ndarray, fit: ndarray, judge: ndarray, recall: float) -> tuple[float, Detector]:
        """The most precise one on the first half at the given recall there, and how it does on the other."""
        positives = np.sort(self.acts[fit & wanted], axis=0)
        n = len(positives)
        needed = max(1, int(np.ceil(recall * n - 1e-9)))
        tops = []
        for sign in (1, -1):
            edge = positives[n - needed] if sign > 0 else positives[needed - 1]
            fires = self._firing(edge, sign)
            precision = needed / np.maximum(fires, needed)
            at = int(np.argmax(precision))
            tops.append((float(precision[at]), at, sign, float(edge[at])))
        precision_fit, at, sign, edge_value = max(tops)
        active = self.acts[:, at] >= edge_value if sign > 0 else self.acts[:, at] <= edge_value
        name = f"{self.hook} {at}" if sign > 0 else f"{self.hook} -{at}"
        return precision_fit, _judged(name, active, wanted, judge)

    def _firing(self, edge: Float[ndarray, " m"], sign: int) -> Int[ndarray, " m"]:
        columns = [self._sorted[:, m] for m in range(len(edge))]
        if sign > 0:
            below = [np.searchsorted(column, at, side="left") for column, at in zip(columns, edge, strict=True)]
            return len(self._sorted) - np.array(below, dtype=np.int64)
        upto = [np.searchsorted(column, at, side="right") for column, at in zip(columns, edge, strict=True)]
        return np.array(upto, dtype=np.int64)


def mean_precision(found: Sequence[Detected]) -> tuple[float, float, int]:
    """Mean precision of codes and of neurons over the classes in which both were measured, and their number."""
    held = [(one.code.precision, one.neuron.precision) for one in found if one.code and one.neuron]
    both = [(code, neuron) for code, neuron in held if code is not None and neuron is not None]
    if not both:
        return float("nan"), float("nan"), 0
    code, neuron = np.mean(both, axis=0).tolist()
    return code, neuron, len(both)
