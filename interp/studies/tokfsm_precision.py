"""How precisely codes tell states, and states with the digit behind them, beside neurons at the same recall."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from interp.codebooks.insertion import SITE_HOOKS
from interp.codebooks.precision import LEAST_FIRINGS, best_codes, halves, mean_precision
from interp.codebooks.record import CodeRecord
from interp.codebooks.tokfsm_results import KINDS, DetectorPrecision, Kind
from interp.studies.tokfsm_codes import n_classes, record_labels

_LEAST: Mapping[Kind, int] = {"state": 1, "pair": LEAST_FIRINGS}
"""A pair must have so many tokens where codes are chosen, and a code be active so often: a code that is active once, on
something rare, is right by luck."""


def detector_precisions(
    record: CodeRecord, neurons: Mapping[str, ndarray], *, on_progress: Callable[[str, int, int], None] | None = None
) -> tuple[DetectorPrecision, ...]:
    """For states and for pairs: the codes of all codebooks together, and those of each site where there are several.

    `neurons` are activations of the base model at the tokens of the record, by hook. Pairs that are too rare to choose
    for are left out, and what no code tells.
    """
    found: list[DetectorPrecision] = []
    parts = [(kind, site, part) for kind in KINDS for site, part in _by_site(record).items()]
    for index, (kind, site, part) in enumerate(parts):
        if on_progress:
            on_progress("precision", index, len(parts))
        names = [str(label) for label in range(n_classes(kind))]
        detected = best_codes(part, _labels(record, kind), names, neurons, least_firings=_LEAST[kind])
        code, neuron, n = mean_precision(detected)
        if n:
            recalls = [one.code.recall for one in detected if one.code and one.neuron]
            recall = float(np.mean([share for share in recalls if share is not None]))
            found.append(DetectorPrecision(kind, site, code, neuron, recall, n))
    if on_progress:
        on_progress("precision", len(parts), len(parts))
    return tuple(found)


def _labels(record: CodeRecord, kind: Kind) -> Int[ndarray, " n"]:
    labels = record_labels(record, kind)
    counts = np.bincount(labels[halves(record)[0] & (labels >= 0)], minlength=n_classes(kind))
    return np.where(counts[labels] >= _LEAST[kind], labels, -1)


def _by_site(record: CodeRecord) -> dict[str, CodeRecord]:
    books = {
        site: tuple(book for book in record.books if book.hook.endswith(hook)) for site, hook in SITE_HOOKS.items()
    }
    held: dict[str, CodeRecord] = {site: replace(record, books=found) for site, found in books.items() if found}
    return held if len(held) == 1 else {" + ".join(held): record, **held}
