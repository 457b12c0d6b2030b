"""Modified Kneser-Ney language models: the baseline that a neural one must beat.

Arrays: an n-gram is known by the number of its entry in the table of its order; -1 means never seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_FALLBACK = (0.5, 1.0, 1.5)


@dataclass(frozen=True, slots=True)
class _Order:
    """One order's n-grams: keys = context number * vocabulary + token, sorted; and what its contexts sum to."""

    keys: Ints
    discounted: Floats
    total: Floats
    backoff: Floats


class KneserNey:
    """Interpolated modified Kneser-Ney over token ids, ending in a uniform distribution over the vocabulary.

    Documents begin with a token (BOS) that is given, not predicted. Lower orders count distinct left neighbours, except
    n-grams at a document's start, which can have none and keep their counts. Where an order's counts of counts vanish
    its discounts are 0.5, 1 and 1.5.

    Raises: DataError if there is nothing to count.
    Source: Chen & Goodman 1998, section 3 (D1, D2 and D3+ by eq. 26); start of document as in Heafield et al. 2013.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        *,
        order: int,
        vocab_size: int,
        discounts: tuple[float, float, float] | None = None,
    ) -> None:
        if order < 1 or not any(len(document) > 1 for document in documents):
            raise DataError(f"got order {order}, {len(documents)} documents; expected an order from 1 on, and tokens")
        self._vocab_size = vocab_size
        self._orders: list[_Order] = []
        tokens, depth = _flatten(documents, order)
        tables, entries, context = [], [], np.zeros(len(tokens), np.int64)
        for n in range(1, order + 1):
            # Position 0 of a document is an n-gram only as a context of the next order.
            exists = depth >= n - 1
            keys = np.where(exists, context * vocab_size + tokens, -1)
            table, entry = np.unique(keys[exists], return_inverse=True)
            numbers = np.full(len(tokens), -1)
            numbers[exists] = entry
            tables.append(table)
            entries.append(numbers)
            context = np.concatenate([[-1], numbers[:-1]])
        for n in range(1, order + 1):
            counts = _counts(entries, depth, n, len(tables[n - 1]), is_highest=n == order)
            self._orders.append(_smooth(tables, counts, n, vocab_size, discounts))

    def nats(self, documents: Sequence[Sequence[int]]) -> float:
        """Surprise of all tokens after each document's first."""
        return float(-np.log(self.probabilities(documents)).sum())

    def probabilities(self, documents: Sequence[Sequence[int]]) -> Floats:
        """Probability of each token after each document's first, documents one after the other."""
        tokens, depth = _flatten(documents, len(self._orders))
        predicted = depth > 0
        p = np.full(len(tokens), 1.0 / self._vocab_size)
        context = np.zeros(len(tokens), np.int64)
        for n, level in enumerate(self._orders, start=1):
            exists = (depth >= n - 1) & (context >= 0)
            entry = np.where(exists, _find(level.keys, context * self._vocab_size + tokens), -1)
            # Before the start of a document, and after an unseen context, the lower order speaks alone.
            speaks = predicted & exists & (level.total[context] > 0)
            here = np.where(entry >= 0, level.discounted[entry], 0.0)
            total = np.where(speaks, level.total[context], 1.0)
            p = np.where(speaks, here / total + level.backoff[context] * p, p)
            context = np.concatenate([[-1], entry[:-1]])
        return p[predicted]


def _flatten(documents: Sequence[Sequence[int]], order: int) -> tuple[Ints, Ints]:
    """All tokens in a row, and how many tokens of its own document precede each (at most `order`)."""
    tokens = np.concatenate([np.asarray(document, np.int64) for document in documents])
    depth = np.concatenate([np.minimum(np.arange(len(document)), order) for document in documents])
    return tokens, depth


def _find(keys: Ints, wanted: Ints) -> Ints:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Ints = np.where(keys[place] == wanted, place, -1)
    return found


def _counts(entries: list[Ints], depth: Ints, n: int, size: int, *, is_highest: bool) -> Ints:
    """How often each n-gram is predicted; in lower orders, after how many distinct tokens."""
    own = entries[n - 1]
    if is_highest:
        return np.bincount(own[(own >= 0) & (depth > 0)], minlength=size)
    longer = entries[n]
    _, first = np.unique(np.where(depth >= n, longer, -1), return_index=True)
    first = first[longer[first] >= 0]
    # depth == n - 1 > 0: the n-gram begins with the document, so nothing can stand before it.
    at_start = (depth == n - 1) & (depth > 0)
    return np.bincount(own[first], minlength=size) + np.bincount(own[at_start], minlength=size)


def _smooth(
    tables: list[Ints], counts: Ints, n: int, vocab_size: int, discounts: tuple[float, float, float] | None
) -> _Order:
    keys = tables[n - 1]
    contexts = keys // vocab_size
    n_contexts = 1 if n == 1 else len(tables[n - 2])
    by_count = np.array([0.0, *(discounts or estimate_discounts(counts))])
    taken = by_count[np.minimum(counts, 3)]
    total = np.bincount(contexts, weights=counts, minlength=n_contexts)
    freed = np.bincount(contexts, weights=taken, minlength=n_contexts)
    return _Order(keys, counts - taken, total.astype(np.float64), freed / np.maximum(total, 1.0))


def estimate_discounts(counts: Ints) -> tuple[float, float, float]:
    """D1, D2 and D3+ from how many n-grams occur once, twice, three and four times.

    Source: Chen & Goodman 1998, eq. 26.
    """
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < d <= c for c, d in enumerate(found, start=1)) else _FALLBACK
