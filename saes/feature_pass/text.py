"""The text of a pass: its tokens, their documents, and which half of the documents each belongs to.

Axes: n tokens of text, s spans, p documents, c contents, v token ids.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse

from saes.feature_pass.ragged import count_keys, run_starts, segment_sums
from saes.feature_pass.spill import Spill

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Text:
    """All tokens, span after span. About 25 bytes a token: the only part of memory that grows with the text.

    begin: place of each span's first token, and the end of all; document: its number in the data set; position: of its
    first token. owner: documents counted from 0 in order of their number, one per span. second: whether a document is
    in the second half. doc_tokens: kept tokens of each document. content: which document each is a copy of, counted
    from 0; content_counts: kept tokens of each content, all copies together, by token id (c, v).
    """

    token_ids: Int[np.ndarray, " n"]
    keep: Bool[np.ndarray, " n"]
    span: Int[np.ndarray, " n"]
    begin: Int[np.ndarray, " s_plus_1"]
    document: Int[np.ndarray, " s"]
    position: Int[np.ndarray, " s"]
    owner: Int[np.ndarray, " s"]
    second: Bool[np.ndarray, " p"]
    doc_tokens: Int[np.ndarray, " p"]
    content: Int[np.ndarray, " p"]
    content_counts: sparse.csr_array
    d_vocab: int

    @property
    def n_documents(self) -> int:
        return int(self.second.shape[0])

    @property
    def n_contents(self) -> int:
        return int(self.content_counts.shape[0])

    @property
    def n_kept(self) -> int:
        return int(self.doc_tokens.sum())

    def documents_of(self, places: Int[np.ndarray, " _"]) -> Int[np.ndarray, " _"]:
        """Document of each place, counted from 0."""
        found: np.ndarray = self.owner[self.span[places]]
        return found


def read_text(spill: Spill, d_vocab: int) -> Text:
    """Put the shards' text together."""
    parts = [spill.read(number, "token_ids", "keep", "begin", "document", "position") for number in _numbers(spill)]
    offsets = np.cumsum([0] + [part[0].shape[0] for part in parts])
    token_ids, keep = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    starts = np.concatenate([part[2] + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    document, position = (np.concatenate([part[index] for part in parts]) for index in (3, 4))
    begin = np.append(starts, offsets[-1])
    span = np.repeat(np.arange(document.shape[0], dtype=np.int32), np.diff(begin))
    names, owner = np.unique(document, return_inverse=True)
    # A document of which every token is masked is none.
    kept_owner = owner[span[keep]]
    doc_tokens = np.bincount(kept_owner, minlength=names.shape[0])
    second = second_half(token_ids, begin, owner)
    pairs, counts = count_keys(kept_owner * d_vocab + token_ids[keep])
    content = _content(pairs, counts, d_vocab, names.shape[0])
    cells = (counts.astype(np.int32), (content[pairs // d_vocab], pairs % d_vocab))
    content_counts = sparse.csr_array(cells, shape=(int(content.max(initial=-1)) + 1, d_vocab))
    return Text(
        token_ids, keep, span, begin, document, position, owner, second, doc_tokens, content, content_counts, d_vocab
    )


def _numbers(spill: Spill) -> range:
    return range(len(spill.records))


def _content(
    pairs: Int[np.ndarray, " m"], counts: Int[np.ndarray, " m"], d_vocab: int, n_documents: int
) -> Int[np.ndarray, " p"]:
    """The same number for documents that keep the same tokens equally often.

    Not by their order: rows may cut two copies of a text at different places.
    """
    hashes = np.zeros(n_documents, dtype=np.uint64)
    starts = run_starts(pairs // d_vocab)
    # One more than the id, or token 0 would have the hash 0 however often it stands there.
    of_token = mix((pairs % d_vocab + 1).astype(np.uint64) * _ODD) * counts.astype(np.uint64)
    hashes[pairs[starts] // d_vocab] = segment_sums(of_token, starts)
    return np.unique(hashes, return_inverse=True)[1]


def second_half(
    token_ids: Int[np.ndarray, " n"], begin: Int[np.ndarray, " s_plus_1"], owner: Int[np.ndarray, " s"]
) -> Bool[np.ndarray, " p"]:
    """Which documents fall in the second half: by a hash of their tokens, so that copies of a text stay together.

    The hash of a document is the smallest of its spans' hashes, whatever the order in which they came.
    """
    length = np.diff(begin)
    offset = np.arange(token_ids.shape[0], dtype=np.uint64) - np.repeat(begin[:-1], length).astype(np.uint64)
    mixed = mix(token_ids.astype(np.uint64) * _ODD + offset)
    hashes = mix(np.add.reduceat(mixed, begin[:-1]) if length.size else mixed)
    smallest = np.full(int(owner.max(initial=-1)) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, owner, hashes)
    # The smallest of several hashes is small: its own low bits still are even-handed.
    second: np.ndarray = (mix(smallest) & np.uint64(1)).astype(bool)
    return second


def mix(x: np.ndarray) -> np.ndarray:
    """A fixed permutation of 64-bit numbers whose bits look random.

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
