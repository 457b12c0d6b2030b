"""How much of one text stands word for word in another."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from interp.word_ngrams import Hashes, N, ngram_hashes


@dataclass(frozen=True, slots=True)
class VerbatimOverlap:
    """Shares of documents and of word n-grams that occur in the reference.

    Units: a document counts if at least one of its n-grams occurs; documents shorter than n words have none.
    """

    n: int
    n_documents: int
    n_ngrams: int
    document_share: float
    ngram_share: float


def verbatim_overlap(texts: Iterable[str], reference: Iterable[str], *, n: int = N) -> VerbatimOverlap:
    """Compare word n-grams, case and punctuation aside, repetitions counted.

    Memory grows with `texts`, not with `reference`, which is read once.

    Source: n = 13 and the normalisation after Brown et al. 2020, appendix C.
    """
    hashes, document, n_documents = _all_ngrams(texts, n)
    hit = _occur_in(hashes, reference, n)
    n_ngrams = hashes.shape[0]
    n_hit = np.unique(document[hit]).shape[0]
    return VerbatimOverlap(n, n_documents, n_ngrams, n_hit / max(n_documents, 1), int(hit.sum()) / max(n_ngrams, 1))


def without_overlap(texts: Iterable[str], reference: Iterable[str], *, n: int = N) -> list[str]:
    """The texts that share no word n-gram with the reference."""
    texts = list(texts)
    hashes, document, _ = _all_ngrams(texts, n)
    shared = set(document[_occur_in(hashes, reference, n)].tolist())
    return [text for number, text in enumerate(texts) if number not in shared]


def _all_ngrams(texts: Iterable[str], n: int) -> tuple[Hashes, np.ndarray, int]:
    """All n-grams, the number of the text that each stands in, and how many texts there are."""
    found = [ngram_hashes(text, n) for text in texts]
    lengths = [hashes.shape[0] for hashes in found]
    document = np.repeat(np.arange(len(found)), lengths)
    return np.concatenate([np.empty(0, np.uint64), *found]), document, len(found)


def _occur_in(hashes: Hashes, reference: Iterable[str], n: int) -> np.ndarray:
    """Which n-grams occur in the reference."""
    wanted, place = np.unique(hashes, return_inverse=True)
    found = np.zeros(wanted.shape[0], np.bool_)
    for text in reference:
        other = ngram_hashes(text, n)
        if wanted.shape[0] and other.shape[0]:
            at = np.minimum(np.searchsorted(wanted, other), wanted.shape[0] - 1)
            found[at[wanted[at] == other]] = True
    return found[place] if hashes.shape[0] else np.zeros(0, np.bool_)


EVALUATED_DOCUMENTS = 2000
"""Evaluation documents that are compared with training text; the first ones."""


def overlap_facts(evaluated: Iterable[str], training: Iterable[str], *, n_training_documents: int) -> dict[str, Any]:
    """The overlap of evaluation text with the first training documents, as a manifest records it.

    Nothing where there is nothing to compare: no evaluation text, or n_training_documents of 0.
    """
    texts = list(islice(evaluated, EVALUATED_DOCUMENTS)) if n_training_documents else []
    if not texts:
        return {}
    reference = _Counted(islice(training, n_training_documents))
    found = verbatim_overlap(texts, reference)
    return {"overlap_with_training": {**asdict(found), "n_training_documents": reference.n}}


class _Counted:
    """Texts, counted as they are read."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts, self.n = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.n += 1
            yield text
