"""Area under the ROC curve where items come in groups of equal score.

Axes: m groups over all rows, r rows.
"""

import numpy as np
from jaxtyping import Float, Int

from saes.feature_pass.ragged import run_starts, segment_sums


def grouped_auc(
    row: Int[np.ndarray, " m"],
    score: Float[np.ndarray, " m"],
    positives: Int[np.ndarray, " m"],
    items: Int[np.ndarray, " m"],
    all_positives: Int[np.ndarray, " r"],
    all_items: Int[np.ndarray, " r"],
) -> Float[np.ndarray, " r"]:
    """Chance that a positive scores above a negative, ties counting half; NaN where a row lacks either.

    A group has `items` items, of which `positives` are positive. What is in no group of its row (`all_` less the sum)
    scores below every group. Groups of equal score in a row are one.
    Source: the Mann-Whitney U statistic over n₊ n₋.
    """
    n_rows = all_positives.shape[0]
    order = np.lexsort((score, row))
    row, score = row[order], score[order]
    starts = np.union1d(run_starts(row), run_starts(score)) if row.size else np.zeros(0, np.int64)
    hits, misses = (segment_sums(x[order].astype(np.float64), starts) for x in (positives, items - positives))
    line = row[starts]
    rest_hits = all_positives - np.bincount(line, hits, n_rows)
    rest_misses = all_items - all_positives - np.bincount(line, misses, n_rows)
    before = np.cumsum(misses) - misses
    first = run_starts(line)
    below = before - np.repeat(before[first], np.diff(np.append(first, line.shape[0]))) + rest_misses[line]
    wins = np.bincount(line, hits * (below + misses / 2), n_rows) + rest_hits * rest_misses / 2
    pairs = all_positives * (all_items - all_positives).astype(np.float64)
    auc: np.ndarray = np.divide(wins, pairs, out=np.full(n_rows, np.nan), where=pairs > 0)
    return auc
