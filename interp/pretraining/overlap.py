"""How much of one text stands word for word in another."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


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


def verbatim_overlap(texts: Iterable[str], reference: Iterable[str], *, n: int = 13) -> VerbatimOverlap:
    """Compare word n-grams, case and punctuation aside, repetitions counted.

    Source: n = 13 and the normalisation after Brown et al. 2020, appendix C.
    """
    known = _all_ngrams(reference, n)
    n_documents = n_ngrams = hit_documents = hit_ngrams = 0
    for text in texts:
        hits = [ngram in known for ngram in word_ngrams(text, n)]
        n_documents += 1
        n_ngrams += len(hits)
        hit_documents += any(hits)
        hit_ngrams += sum(hits)
    return VerbatimOverlap(n, n_documents, n_ngrams, hit_documents / max(n_documents, 1), hit_ngrams / max(n_ngrams, 1))


def without_overlap(texts: Iterable[str], reference: Iterable[str], *, n: int = 13) -> list[str]:
    """The texts that share no word n-gram with the reference."""
    known = _all_ngrams(reference, n)
    return [text for text in texts if known.isdisjoint(word_ngrams(text, n))]


def _all_ngrams(texts: Iterable[str], n: int) -> set[str]:
    return {ngram for text in texts for ngram in word_ngrams(text, n)}


def word_ngrams(text: str, n: int) -> Iterator[str]:
    """All runs of n words, lower case, words being runs of letters, digits and apostrophes."""
    words = re.findall(r"[\w']+", text.lower())
    return (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
