"""Modified Kneser-Ney against a plain recursive definition, a hand computation, and the axioms of probability."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from interp.errors import DataError
from interp.pretraining.ngrams import KneserNey, estimate_discounts

V = 6
D = (0.4, 0.9, 1.3)


def random_documents(n: int = 30, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[0, *(draw.choice([1, 1, 2, 3, 4]) for _ in range(draw.randrange(9))), 0] for _ in range(n)]


class Definition:
    """Chen & Goodman's recursion, read off the page: dictionaries and no sharing."""

    def __init__(self, documents: Sequence[Sequence[int]], order: int) -> None:
        self.order = order
        grams = {
            n: [(tuple(d[i - n + 1 : i + 1])) for d in documents for i in range(1, len(d)) if i - n + 1 >= 0]
            for n in range(1, order + 1)
        }
        self.counts = {order: Counter(grams[order])}
        for n in range(1, order):
            starts = Counter(tuple(d[:n]) for d in documents if len(d) >= n) if n > 1 else Counter()
            left = Counter(gram[1:] for gram in set(grams[n + 1]))
            self.counts[n] = left + starts

    def probability(self, context: tuple[int, ...], token: int) -> float:
        n = len(context) + 1
        if n == 0:
            return 1 / V
        lower = self.probability(context[1:], token) if context else 1 / V
        followers = {gram: c for gram, c in self.counts[n].items() if gram[:-1] == context}
        if not followers:
            return lower
        total = sum(followers.values())
        freed = sum(D[min(c, 3) - 1] for c in followers.values())
        c = followers.get((*context, token), 0)
        return (c - D[min(c, 3) - 1] if c else 0.0) / total + freed / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_arrays_agree_with_the_definition(order: int):
    documents = random_documents()
    model = KneserNey(documents, order=order, vocab_size=V, discounts=D)
    plain = Definition(documents, order)
    queries = [*random_documents(20, seed=1), [0, 5, 1, 5, 5, 2, 0]]
    expected = [plain.probability(tuple(q[max(0, i - order + 1) : i]), q[i]) for q in queries for i in range(1, len(q))]
    np.testing.assert_allclose(model.probabilities(queries), expected, rtol=1e-12)
    assert model.nats(queries) == pytest.approx(-sum(map(math.log, expected)))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("context", [[0], [0, 1], [0, 1, 1, 2], [0, 5, 5], [0, 3, 4, 1, 2, 1]])
def test_sums_to_one(order: int, context: list[int]):
    model = KneserNey(random_documents(200), order=order, vocab_size=V)
    last = [model.probabilities([[*context, token]])[-1] for token in range(V)]
    assert sum(last) == pytest.approx(1.0, abs=1e-12)
    assert min(last) > 0


def test_bigram_by_hand():
    # Documents "a b", "a b", "a c" with a=1, b=2, c=3. After a: b twice, c once.
    documents = [[0, 1, 2, 0], [0, 1, 2, 0], [0, 1, 3, 0]]
    model = KneserNey(documents, order=2, vocab_size=V, discounts=D)
    # Distinct left neighbours: a 1 (start), b 1, c 1, end 2; five in all, D1 three times and D2 once freed.
    unigram_b = (1 - 0.4) / 5 + (3 * 0.4 + 0.9) / 5 / V
    expected = (2 - 0.9) / 3 + (0.9 + 0.4) / 3 * unigram_b
    assert model.probabilities([[0, 1, 2]])[1] == pytest.approx(expected)


def test_discounts_by_hand():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1; Y = 4 / (4 + 4).
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4, 9])
    assert estimate_discounts(counts) == pytest.approx((1 - 2 * 0.5 * 2 / 4, 2 - 3 * 0.5 * 1 / 2, 3 - 4 * 0.5 * 1 / 1))
    assert estimate_discounts(np.array([7, 8])) == (0.5, 1.0, 1.5)


def test_nothing_to_count_is_refused():
    with pytest.raises(DataError):
        KneserNey([[0]], order=2, vocab_size=V)
