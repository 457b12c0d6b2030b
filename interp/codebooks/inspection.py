"""What each code is about, from a record: how often, on what, what follows, and which codes go together.

Axes: n tokens, c codes, k active codes, p classes of tokens, v vocabulary.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from interp.codebooks.insertion import Codebooks
from interp.codebooks.names import CodeName
from interp.codebooks.record import Book, CodeRecord
from interp.models import Model
from interp.weights import linear_matrix

N_SHOWN = 6
WINDOW = 10


@dataclass(frozen=True, slots=True)
class Counted:
    """A token with how often it was there, and how many times as often as elsewhere."""

    token_id: int
    share: float
    lift: float


@dataclass(frozen=True, slots=True)
class CodeContext:
    """Tokens around one at which a code was active. Shapes: token_ids, active: one for each token, peak among them."""

    token_ids: tuple[int, ...]
    active: tuple[bool, ...]
    peak: int
    document: int
    position: int


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """One code. Units: share of all tokens; token_entropy_bits of the token it is active on, 0 if always the same."""

    name: str
    count: int
    share: float
    token_entropy_bits: float
    fires_on: tuple[Counted, ...]
    followed_by: tuple[Counted, ...]
    raises: tuple[int, ...]
    contexts: tuple[CodeContext, ...] = ()


@dataclass(frozen=True, slots=True)
class BookFacts:
    """One codebook. Units: bits; the entropy of which code is active, at most log2 of their number, and its share of
    that; perplexity: as many equally likely codes would have that entropy."""

    name: str
    n_codes: int
    n_active: int
    entropy_bits: float

    @property
    def dead_share(self) -> float:
        return 1 - self.n_active / self.n_codes

    @property
    def perplexity(self) -> float:
        return float(2**self.entropy_bits)


def book_facts(book: Book) -> BookFacts:
    """How a codebook is used."""
    counts = book.counts()
    return BookFacts(book.name, book.n_codes, int((counts > 0).sum()), entropy_bits(counts))


def entropy_bits(counts: Int[ndarray, " c"]) -> float:
    """Entropy of the frequencies that counts estimate. Units: bits."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def contingency(book: Book, labels: Int[ndarray, " n"], n_classes: int) -> Int[ndarray, "c p"]:
    """Tokens of each class at which each code was active; labels below zero are of no class."""
    labelled = np.repeat(labels, book.ids.shape[1])
    held = labelled >= 0
    keys = book.ids.ravel().astype(np.int64)[held] * n_classes + labelled[held]
    return np.bincount(keys, minlength=book.n_codes * n_classes).reshape(book.n_codes, n_classes)


def code_facts(
    record: CodeRecord, name: CodeName, *, raises: Sequence[int] = (), n_contexts: int = 0, seed: int = 0
) -> CodeFacts:
    """Everything about one code; contexts are drawn by seed from different documents where there are enough."""
    book = record.book(name.hook, name.group)
    active = (book.ids == name.code).any(1)
    tokens, following = record.token_ids[active], record.next_ids[active]
    return CodeFacts(
        str(name),
        int(active.sum()),
        float(active.mean()),
        entropy_bits(np.bincount(tokens)) if len(tokens) else 0.0,
        _most(tokens, record.token_ids),
        _most(following[following >= 0], record.next_ids[record.next_ids >= 0]),
        tuple(raises),
        tuple(_context(record, active, at) for at in _drawn(record, active, n_contexts, seed)),
    )


def _most(held: Int[ndarray, " n"], everywhere: Int[ndarray, " m"]) -> tuple[Counted, ...]:
    """The commonest of `held`."""
    if not len(held):
        return ()
    counts, base = np.bincount(held), np.bincount(everywhere)
    best = np.argsort(-counts, kind="stable")[:N_SHOWN]
    shares = counts[best] / len(held)
    return tuple(
        Counted(int(token), float(share), float(share / (base[token] / len(everywhere))))
        for token, share in zip(best, shares, strict=True)
        if share > 0
    )


def _drawn(record: CodeRecord, active: ndarray, n: int, seed: int) -> list[int]:
    places = np.random.default_rng(seed).permutation(np.flatnonzero(active))
    _, first = np.unique(record.document[places], return_index=True)
    others = np.setdiff1d(np.arange(len(places)), first)
    return [int(place) for place in places[np.concatenate([np.sort(first), others])[:n].astype(np.int64)]]


def _context(record: CodeRecord, active: ndarray, at: int) -> CodeContext:
    low, high = max(0, at - WINDOW), min(len(record), at + WINDOW + 1)
    near = np.arange(low, high)
    near = near[(record.row[near] == record.row[at]) & (record.document[near] == record.document[at])]
    return CodeContext(
        tuple(record.token_ids[near].tolist()),
        tuple(active[near].tolist()),
        int(np.flatnonzero(near == at)[0]),
        int(record.document[at]),
        int(record.position[at]),
    )


@torch.no_grad()
def raised_tokens(
    model: Model, codebooks: Codebooks, hook: str, group: int, n: int = N_SHOWN, *, codes: Sequence[int] | None = None
) -> Int[ndarray, "c n"]:
    """Tokens that each code of a codebook, or each of some, raises most by the direct path to the logits.

    A head's code goes through its columns of W_O; norms between the hook and the stream (Gemma 2) are left out, and of
    the final norm the weights alone are taken. Logits are less their mean over the vocabulary.
    """
    quantiser = codebooks[hook]
    written = quantiser.codes[group].float()
    written = written if codes is None else written[list(codes)]
    point = model.hook(hook)
    if point.head_shape is not None:
        matrix = linear_matrix(model.hf.get_submodule(point.module_path), point.width, model.dtype)
        start = group * quantiser.group_width
        written = written @ matrix[:, start : start + quantiser.group_width].T
    norm: Any = model.final_norm
    unembedding = model.unembedding
    assert norm is not None
    assert unembedding is not None
    gain: torch.Tensor = norm.weight.detach().float()
    # Gemma's norms multiply by one more than their weight.
    gain = gain + 1 if model.family.startswith("gemma") else gain
    matrix = linear_matrix(unembedding, model.d_model, model.dtype)
    centred = written if model.paths.rms_norm else written - written.mean(1, keepdim=True)
    logits = centred * gain @ matrix.T
    logits = logits - logits.mean(1, keepdim=True)
    found: ndarray = logits.topk(min(n, logits.shape[1]), dim=1).indices.cpu().numpy()
    return found


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two codes that go together more than their counts would have it. Units: lift, times as often as by chance."""

    first: str
    second: str
    count: int
    lift: float

    @property
    def weight(self) -> float:
        """Count times log lift: frequent pairs do not count for being of frequent codes, nor rare ones for luck."""
        return self.count * math.log(self.lift)


def transitions(record: CodeRecord, book: Book, n: int = 20) -> tuple[Pairing, ...]:
    """From a token to the next: changes from one code to another of the same codebook, those of most weight."""
    follows = (record.row[1:] == record.row[:-1]) & (np.diff(record.position) == 1)
    found = _pairs(book, book, book.ids[:-1][follows], book.ids[1:][follows], unordered=False)
    return _heaviest((pair for pair in found if pair.first != pair.second), n)


def transition_matrix(record: CodeRecord, book: Book, codes: Sequence[int]) -> Float[ndarray, "c c"]:
    """Share of the tokens behind each of these codes at which each of them is active."""
    follows = (record.row[1:] == record.row[:-1]) & (np.diff(record.position) == 1)
    before, after = book.ids[:-1][follows], book.ids[1:][follows]
    first = np.stack([(before == code).any(1) for code in codes]).astype(np.float64)
    second = np.stack([(after == code).any(1) for code in codes]).astype(np.float64)
    return np.asarray(first @ second.T / np.maximum(first.sum(1), 1)[:, None])


def co_use(record: CodeRecord, first: Book, second: Book, n: int = 20) -> tuple[Pairing, ...]:
    """At the same token: the pairs of codes of two codebooks, or of one, that are active together; of most weight."""
    del record
    return _heaviest(_pairs(first, second, first.ids, second.ids, unordered=first.name == second.name), n)


def _heaviest(found: Iterable[Pairing], n: int) -> tuple[Pairing, ...]:
    """Pairs above chance, the heaviest first."""
    return tuple(sorted((pair for pair in found if pair.lift > 1), key=lambda pair: -pair.weight)[:n])


def _pairs(first: Book, second: Book, a: ndarray, b: ndarray, *, unordered: bool) -> list[Pairing]:
    """Pairs of (n, k) codes, one pair for each combination of a token; each of two once where they are unordered."""
    left = np.repeat(a.astype(np.int64), b.shape[1], axis=1).ravel()
    right = np.tile(b.astype(np.int64), (1, a.shape[1])).ravel()
    if unordered:
        left, right = left[left < right], right[left < right]
    keys, counts = np.unique(left * second.n_codes + right, return_counts=True)
    alone = np.bincount(left, minlength=first.n_codes), np.bincount(right, minlength=second.n_codes)
    codes = keys // second.n_codes, keys % second.n_codes
    chance = alone[0][codes[0]] * alone[1][codes[1]] / max(len(left), 1)
    if unordered:
        # Which of two stands left says nothing: either code may, and so may the other.
        either = alone[0] + alone[1]
        chance = either[codes[0]] * either[codes[1]] / (2 * max(len(left), 1))
    return [
        Pairing(str(first.code(int(x))), str(second.code(int(y))), int(count), float(lift))
        for x, y, count, lift in zip(*codes, counts, counts / chance, strict=True)
    ]
