"""Documents that were there before, exactly or nearly, told with memory that does not grow with their number."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from interp.documents import Documents
from interp.errors import ConfigError
from interp.hub_documents import Place
from interp.word_ngrams import Hashes, hash_words, mix, ngram_hashes, words_of

Deduplicate = Literal["no", "exact", "near"]

N_BANDS, BAND_ROWS = 16, 8
"""Documents sharing a share s of their 13-word runs (Jaccard) count as near with probability 1 - (1 - s^8)^16."""
WRONGLY_DROPPED = 0.01
"""Largest expected share of documents taken for known by accident before more memory is asked for."""
_N_PROBES = 8


class SeenKeys:
    """Which numbers were added before: never forgets one, and takes a new one for known with a small, told chance.

    Source: Bloom 1970; two hashes for all probes, Kirsch & Mitzenmacher 2006.
    """

    def __init__(self, mebibytes: int) -> None:
        self._bits = np.zeros(mebibytes << 20, np.uint8)
        self.n_added = 0

    def chance_of_error(self) -> float:
        """Probability that a new number is now taken for known."""
        n_bits = 8 * self._bits.shape[0]
        return float((1 - np.exp(-_N_PROBES * self.n_added / n_bits)) ** _N_PROBES)

    def add(self, keys: Hashes) -> np.ndarray:
        """Add numbers and tell which of them were there already, (n,)."""
        # An odd step, so that the probes of one number differ.
        step = mix(keys) | np.uint64(1)
        probes = keys[:, None] + step[:, None] * np.arange(_N_PROBES, dtype=np.uint64)
        place = (probes % np.uint64(8 * self._bits.shape[0])).astype(np.uint64)
        byte = place >> np.uint64(3)
        bit = np.left_shift(np.uint8(1), (place & np.uint64(7)).astype(np.uint8))
        known: np.ndarray = ((self._bits[byte] & bit) != 0).all(axis=1)
        np.bitwise_or.at(self._bits, byte.ravel(), bit.ravel())
        self.n_added += int((~known).sum())
        return known


def exact_key(text: str) -> Hashes:
    """One number for all texts of the same words in the same order."""
    words = words_of(text)
    return ngram_hashes(text, len(words)) if words else np.zeros(1, np.uint64)


def near_keys(text: str) -> Hashes:
    """One number per band of a MinHash signature over runs of 13 words; two texts are near if they share one.

    Texts of fewer words have one number, that of all their words.

    Source: Broder 1997 (MinHash); bands as in Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4.
    """
    runs = ngram_hashes(text)
    if runs.shape[0] == 0:
        return exact_key(text)
    bands = _smallest(runs).reshape(N_BANDS, BAND_ROWS)
    keys = _BAND_SALTS.copy()
    for row in range(BAND_ROWS):
        keys = mix(keys ^ bands[:, row])
    return keys


def _smallest(runs: Hashes) -> Hashes:
    """The smallest of the runs' numbers after each of the signature's reorderings, some runs at a time."""
    smallest = np.full(_FACTORS.shape[0], np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, runs.shape[0], 1024):
        # The numbers are mixed already: a product with an odd factor and a shift reorders them well enough.
        reordered = runs[start : start + 1024, None] * _FACTORS + _SHIFTS
        smallest = np.minimum(smallest, reordered.min(axis=0))
    return smallest


_FACTORS = hash_words([f"factor {i}" for i in range(N_BANDS * BAND_ROWS)]) | np.uint64(1)
_SHIFTS = hash_words([f"shift {i}" for i in range(N_BANDS * BAND_ROWS)])
_BAND_SALTS = hash_words([f"band {i}" for i in range(N_BANDS)])
_KEYS: Mapping[str, Callable[[str], Hashes]] = {"exact": exact_key, "near": near_keys}


@dataclass(frozen=True, slots=True)
class UniqueDocuments(Documents):
    """A data set without documents that came before in it; the others keep their numbers.

    What was seen is counted from the first document on, so that reading from a later one gives the same documents.
    """

    by: Deduplicate = "exact"
    mebibytes: int = 64

    def iter_places(
        self,
        document: int = 0,
        place: Mapping[str, int] | None = None,  # noqa: ARG002
    ) -> Iterator[tuple[int, str, Place]]:
        """As of all documents. `place` is not used: whether a document is new shows only from the start.

        Raises: ConfigError once more documents came than the memory can tell apart.
        """
        keys_of, seen = _KEYS[self.by], SeenKeys(self.mebibytes)
        # Named, since a dataclass with slots is made anew and has no `super()` without arguments.
        for number, text, _ in Documents.iter_places(self):
            keys = keys_of(text)
            known = bool(seen.add(keys).any())
            if number % 4096 == 0 and seen.chance_of_error() * keys.shape[0] > WRONGLY_DROPPED:
                raise ConfigError(
                    f"data.deduplicate_mib: {self.mebibytes} MiB cannot tell apart more than {number:,} documents "
                    f"({self.by}); give {2 * self.mebibytes} or more"
                )
            if not known and number >= document:
                yield number, text, {}


def without_duplicates(documents: Documents, by: Deduplicate, *, mebibytes: int) -> Documents:
    """The same data set, read without documents that came before in it."""
    if by == "no":
        return documents
    return UniqueDocuments(documents.name, documents.content_hash, documents._read, by, mebibytes)
