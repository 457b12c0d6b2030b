"""How precisely codes tell states, and states with the digit behind them, beside neurons at the same recall."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy import ndarray

from interp.codebooks.insertion import SITE_HOOKS
from interp.codebooks.precision import LEAST_FIRINGS, best_codes, mean_precision
from interp.codebooks.record import CodeRecord
from interp.codebooks.tokfsm_results import KINDS, DetectorPrecision, Kind
from interp.studies.tokfsm_codes import n_classes, record_labels

_LEAST: Mapping[Kind, int] = {"state": 1, "pair": LEAST_FIRINGS}
"""Pairs are rare: a code that is active once, on one of them, is right by luck."""


def detector_precisions(record: CodeRecord, neurons: Mapping[str, ndarray]) -> tuple[DetectorPrecision, ...]:
    """For states and for pairs: the codes of all codebooks together, and those of each site where there are several.

    `neurons` are activations of the base model at the tokens of the record, by hook. What no code tells is left out.
    """
    found = []
    for kind in KINDS:
        labels = record_labels(record, kind)
        names = [str(label) for label in range(n_classes(kind))]
        for site, part in _by_site(record):
            detected = best_codes(part, labels, names, neurons, least_firings=_LEAST[kind])
            code, neuron, n = mean_precision(detected)
            if n:
                recall = float(np.mean([one.code.recall for one in detected if one.code and one.neuron]))
                found.append(DetectorPrecision(kind, site, code, neuron, recall, n))
    return tuple(found)


def _by_site(record: CodeRecord) -> Iterator[tuple[str, CodeRecord]]:
    books = {
        site: tuple(book for book in record.books if book.hook.endswith(hook)) for site, hook in SITE_HOOKS.items()
    }
    held = {site: found for site, found in books.items() if found}
    yield " + ".join(held), record
    if len(held) > 1:
        yield from ((site, replace(record, books=found)) for site, found in held.items())
