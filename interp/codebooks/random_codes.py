"""Random codes that are about as frequent as given ones: what steering by those is held against.

Axes: c codes.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from interp.codebooks.names import CodeName
from interp.codebooks.record import CodeRecord
from interp.errors import ConfigError

NEAREST = 20
"""Codes nearest in frequency among which is drawn, at least."""


def random_sets(
    record: CodeRecord, codes: Sequence[CodeName], n: int, generator: np.random.Generator
) -> list[tuple[CodeName, ...]]:
    """Up to `n` different sets: for each code another one of its codebook that is about as frequent.

    Drawn among the codes nearest in frequency, 20 or as many as it takes for `n` sets; each is drawn before any is
    drawn again. There are fewer sets where codebooks hold no more.
    Raises: ConfigError if a codebook has not enough other codes.
    """
    pools = _pools(record, codes, n)
    queues: list[list[CodeName]] = [[] for _ in codes]
    found: dict[frozenset[CodeName], tuple[CodeName, ...]] = {}
    repeated = 0
    # A round through the largest pool that brings nothing new ends it.
    while len(found) < n and repeated <= max(len(pool) for pool in pools):
        drawn: list[CodeName] = []
        for pool, queue in zip(pools, queues, strict=True):
            if not set(queue) - set(drawn):
                queue += [pool[index] for index in generator.permutation(len(pool))]
            drawn.append(queue.pop(next(place for place, one in enumerate(queue) if one not in drawn)))
        repeated = repeated + 1 if frozenset(drawn) in found else 0
        found.setdefault(frozenset(drawn), tuple(drawn))
    return list(found.values())


def relative_frequency(
    record: CodeRecord, codes: Sequence[CodeName], sets: Sequence[Sequence[CodeName]]
) -> float | None:
    """Median over sets of how often their codes are active, all counted, of that of `codes`; None without either."""
    counts = _counts(record, codes)
    own = _total(counts, codes)
    return float(np.median([_total(counts, one) / own for one in sets])) if sets and own else None


_Book = tuple[str, int]


def _counts(record: CodeRecord, codes: Sequence[CodeName]) -> dict[_Book, Int[ndarray, " c"]]:
    return {key: record.book(*key).counts() for key in {(name.hook, name.group) for name in codes}}


def _total(counts: dict[_Book, Int[ndarray, " c"]], codes: Sequence[CodeName]) -> int:
    return int(sum(counts[name.hook, name.group][name.code] for name in codes))


def _pools(record: CodeRecord, codes: Sequence[CodeName], n: int) -> list[list[CodeName]]:
    """For each code those of its codebook that are nearest to it in frequency, none of the given ones among them."""
    counts, taken = _counts(record, codes), Counter((name.hook, name.group) for name in codes)
    for key, n_taken in taken.items():
        if 2 * n_taken > len(counts[key]):
            raise ConfigError(
                f"got {n_taken} codes of a codebook of {len(counts[key])}; none is left to compare them with; give "
                "fewer"
            )
    free = {key: len(counts[key]) - n_taken for key, n_taken in taken.items()}
    size = _pool_size([(free[key], n_taken) for key, n_taken in taken.items()], n)
    return [_nearest(counts[name.hook, name.group], codes, name)[:size] for name in codes]


def _pool_size(books: Sequence[tuple[int, int]], n: int) -> int:
    """The smallest pool for `n` sets, of codebooks as (codes to draw from, codes that are drawn).

    Pools of one codebook are counted as if they were the same, which makes the fewest sets.
    """
    # Draws of one code go through the pool without repeating; those of several meet sets that were there before.
    wanted = n if sum(n_drawn for _, n_drawn in books) == 1 else 2 * n
    size, most = max(NEAREST, *(n_drawn for _, n_drawn in books)), max(free for free, _ in books)
    while size < most and _n_sets(books, size) < wanted:
        size += 1
    return size


def _n_sets(books: Sequence[tuple[int, int]], size: int) -> int:
    return math.prod(math.comb(min(size, free), n_drawn) for free, n_drawn in books)


def _nearest(counts: Int[ndarray, " c"], codes: Sequence[CodeName], name: CodeName) -> list[CodeName]:
    taken = [other.code for other in codes if (other.hook, other.group) == (name.hook, name.group)]
    distance = np.abs(np.log1p(counts) - np.log1p(counts[name.code]))
    distance[taken] = np.inf
    near = np.argsort(distance, kind="stable")[: len(counts) - len(taken)]
    return [CodeName(name.hook, name.group, int(code)) for code in near]
