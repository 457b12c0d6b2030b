"""Runs of words, as numbers: what texts are compared by.

Words are runs of letters, digits and apostrophes, in lower case, so that spacing and punctuation do not matter. In
scripts without spaces (Chinese, Japanese, Thai) such a run is a clause, and few texts have 13 of them.
"""

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

N = 13
"""Words in a run that two texts hardly share by chance. Source: Brown et al. 2020, appendix C."""

_WORD = re.compile(r"[\w']+")
_BASE = np.uint64(0x9E3779B97F4A7C15)


def words_of(text: str) -> list[str]:
    """The words of a text, normalised."""
    return _WORD.findall(text.lower())


def ngram_hashes(text: str, n: int = N) -> Hashes:
    """A 64-bit number for every run of n words, in order; none for a text of fewer.

    Two different runs get the same number with probability 2**-64.
    """
    words = words_of(text)
    if len(words) < n:
        return np.empty(0, np.uint64)
    numbers = hash_words(words)
    total = np.zeros(len(words) - n + 1, np.uint64)
    # A polynomial in the words' numbers, so that their order counts; products wrap around at 64 bits.
    for offset in range(n):
        total = total * _BASE + numbers[offset : len(words) - n + 1 + offset]
    return mix(total)


def hash_words(words: list[str]) -> Hashes:
    """A 64-bit number for each word."""
    known = {word: int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") for word in set(words)}
    return np.array([known[word] for word in words], np.uint64)


def mix(x: Hashes) -> Hashes:
    """Spread every bit of each number over all bits.

    Source: the finaliser of SplitMix64, Steele et al. 2014, figure 16.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = x ^ (x >> np.uint64(31))
    return mixed
