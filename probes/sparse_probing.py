"""How much of a concept a few features hold: k-sparse probing, beside what it must beat and what it cannot.

Source: Gurnee et al. 2023 (arXiv 2305.01610); features by mean difference as in SAEBench (arXiv 2503.09532).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from probes.benchmark_rows import BAG_OF_TOKENS, DENSE, FEATURES, MAJORITY, RANDOM, Row
from probes.concept_activations import FeatureActivations
from probes.concept_tasks import BinaryTask
from probes.feature_choice import by_mean_difference, matched_random, top_features
from probes.intervals import Score, cluster_interval, mean_of
from probes.logistic import fit_logistic

MEASURE = "sparse probing"
KS = (1, 2, 5)


def sparse_probing(
    task: BinaryTask, features: FeatureActivations, *, ks: Sequence[int] = KS, seed: int = 0
) -> list[Row]:
    """Held-out accuracy of logistic regression on the k features whose means differ most on training examples.

    Beside it the same number of other features that fire as often.
    Units: share of held-out examples, half of them yes; intervals resample words.
    """
    best = top_features(by_mean_difference(features, task.y, task.train), max(ks))
    chosen = np.zeros(task.y.shape, dtype=bool)
    chosen[task.train] = True
    other = matched_random(features.density(chosen), best, seed=seed)
    return [
        _row(task, arm, k, _accuracy(task, *_of(features, task, held[:k]), seed=seed))
        for arm, held in ((FEATURES, best), (RANDOM, other))
        for k in ks
    ]


def reference_probes(task: BinaryTask, *, seed: int = 0) -> list[Row]:
    """What needs no dictionary: a probe of all of the activation, the commoner answer, the tokens read so far.

    Tokens are counted, the labelled one apart from those before it.
    """
    commoner = task.answers("train").mean() >= 0.5
    right = (task.answers("test") == commoner).astype(np.float64)
    return [
        _row(task, DENSE, None, _accuracy(task, task.x("train"), task.x("test"), seed=seed)),
        _row(task, MAJORITY, None, cluster_interval(mean_of(right), task.test_words, seed=seed)),
        _row(task, BAG_OF_TOKENS, None, _accuracy(task, *_token_counts(task), seed=seed)),
    ]


def is_represented(rows: Sequence[Row]) -> bool:
    """Whether a dense probe beats the commoner answer and the tokens: the low end of its interval against theirs."""
    dense, majority, tokens = (
        next(row.score for row in rows if row.arm == arm) for arm in (DENSE, MAJORITY, BAG_OF_TOKENS)
    )
    low = dense.value if dense.interval is None else dense.interval[0]
    return low > majority.value and low > tokens.value


def _row(task: BinaryTask, arm: str, k: int | None, score: Score) -> Row:
    return Row(MEASURE, f"{task.data.name}: {task.name}", "accuracy", arm, k, score)


def _of(
    features: FeatureActivations, task: BinaryTask, chosen: Sequence[int]
) -> tuple[Float[ndarray, "m k"], Float[ndarray, "n k"]]:
    values = features.columns(chosen).numpy()
    return values[task.train], values[task.test]


def _accuracy(task: BinaryTask, train: Float[ndarray, "m k"], test: Float[ndarray, "n k"], *, seed: int) -> Score:
    right = fit_logistic(train, task.answers("train")).correct(test, task.answers("test"))
    return cluster_interval(mean_of(right), task.test_words, seed=seed)


def _token_counts(task: BinaryTask) -> Iterator[Float[ndarray, "m v"]]:
    """Counts of training tokens in each example, first the training side's, then the held-out one's."""
    bags = [[(False, token) for token in ids[:-1]] + [(True, ids[-1])] for ids in task.data.prefixes]
    slots = {token: slot for slot, token in enumerate(sorted({t for row in task.train for t in bags[row]}))}
    for rows in (task.train, task.test):
        counts = np.zeros((rows.size, len(slots)))
        for index, row in enumerate(rows):
            for token in bags[row]:
                if token in slots:
                    counts[index, slots[token]] += 1
        yield counts
