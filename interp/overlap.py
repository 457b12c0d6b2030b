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

    Units: a document counts if at least one of its n-grams occurs; documents shorter than n words have none. Without
    any n-gram (short texts, scripts without spaces) nothing was compared and the shares are None.
    """

    n: int
    n_documents: int
    n_ngrams: int
    document_share: float | None
    ngram_share: float | None


def verbatim_overlap(texts: Iterable[str], reference: Iterable[str], *, n: int = N) -> VerbatimOverlap:
    """Compare word n-grams, case and punctuation aside, repetitions counted.

    Memory grows with `texts`, not with `reference`, which is read once.

    Source: n = 13 and the normalisation after Brown et al. 2020, appendix C.
    """
    hashes, document, n_documents = _all_ngrams(texts, n)
    hit = _occur_in(hashes, reference, n)
    n_ngrams = hashes.shape[0]
    if n_ngrams == 0:
        return VerbatimOverlap(n, n_documents, 0, None, None)
    n_hit = np.unique(document[hit]).shape[0]
    return VerbatimOverlap(n, n_documents, n_ngrams, n_hit / n_documents, int(hit.sum()) / n_ngrams)


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
READ_DOCUMENTS = 100_000
"""Documents of either text that are read for it at most, however few of them belong to the split."""


def overlap_facts(evaluated: Iterable[str], training: Iterable[str], *, n_training_documents: int) -> dict[str, Any]:
    """The overlap of evaluation text with the first training documents, as a manifest records it.

    Nothing where it is not asked for: n_training_documents of 0. Both texts hold what there is of their split among
    the first READ_DOCUMENTS documents.
    """
    if n_training_documents == 0:
        return {}
    texts = list(islice(evaluated, EVALUATED_DOCUMENTS))
    if not texts:
        return not_measured(f"no evaluation text among the first {READ_DOCUMENTS:,} documents")
    reference = _Counted(islice(training, n_training_documents))
    found = verbatim_overlap(texts, reference)
    return {"overlap_with_training": {**asdict(found), "n_training_documents": reference.n}}


def not_measured(reason: str) -> dict[str, Any]:
    """What is recorded in place of the overlap."""
    return {"overlap_with_training": {"not_measured": reason}}


class _Counted:
    """Texts, counted as they are read."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts, self.n = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.n += 1
            yield text
