"""Which of many differences between two groups of documents are no chance: permutation tests, false discoveries.

Axes: n documents, f features, m draws.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

MOST_DRAWS = 50_000
ENOUGH = 20
"""Draws as extreme as what was seen after which a feature needs no more of them."""
_CHUNK = 500
_FIRST_SHARE = 1e-9


def permutation_p(
    values: Float[ndarray, "n f"], first: Bool[ndarray, " n"], *, most_draws: int = MOST_DRAWS, seed: int = 0
) -> Float[ndarray, " f"]:
    """Two-sided p of the difference of group means, each feature by itself, dealing documents out anew.

    Draws go on for a feature until ENOUGH of them are as extreme as what was seen: p = ENOUGH / draws so far. Those
    that get to `most_draws` have p = (1 + as extreme) / (1 + draws). Both are exact: P(p <= a) <= a if nothing differs.
    Source: Besag & Clifford 1991 (Sequential Monte Carlo p-values), section 2.
    """
    n, n_first = first.shape[0], int(first.sum())
    apart = np.asarray(values, dtype=np.float64) - values.mean(0)
    # The difference of means grows with the first group's sum; that of all documents is zero.
    seen = np.abs(apart[first].sum(0))
    # Sums of the same numbers in another order differ in their last bits: as extreme is as extreme.
    limit = seen - _FIRST_SHARE * np.abs(apart).sum(0)
    draw = np.random.default_rng(seed)
    p, extreme, going, done = np.ones(values.shape[1]), np.zeros(values.shape[1]), np.arange(values.shape[1]), 0
    while going.size and done < most_draws:
        size = min(_CHUNK, most_draws - done)
        chosen = draw.permuted(np.broadcast_to(np.arange(n) < n_first, (size, n)), axis=1)
        hits = np.abs(chosen.astype(np.float64) @ apart[:, going]) >= limit[going]
        counts = extreme[going] + hits.cumsum(0)
        finished = counts[-1] >= ENOUGH
        p[going[finished]] = ENOUGH / (done + 1 + (counts[:, finished] >= ENOUGH).argmax(0))
        extreme[going] = counts[-1]
        going, done = going[~finished], done + size
    p[going] = (1 + extreme[going]) / (1 + done)
    return p


def least_p(n: int, n_first: int, *, most_draws: int = MOST_DRAWS) -> float:
    """The smallest p that so many documents and draws can give, but for the chance of few draws.

    Groups of one size can change places without changing the difference: of their deals two are as extreme.
    """
    as_extreme = 2 if 2 * n_first == n else 1
    return max(as_extreme / math.comb(n, n_first), 1 / (1 + most_draws))


def benjamini_hochberg(p: Float[ndarray, " f"]) -> Float[ndarray, " f"]:
    """q of every p: the least rate of false discoveries at which it is one.

    Source: Benjamini & Hochberg 1995, in the adjusted form.
    """
    order = np.argsort(p)
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    q = np.empty_like(scaled)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q
