"""Which codes stand for a state of the machine, and which others are as frequent.

Axes: b rows, t position, n tokens, g groups, k active codes, s classes (states, or states with a digit).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from torch import Tensor

from interp.codebooks.insertion import Codebooks
from interp.codebooks.inspection import contingency
from interp.codebooks.record import Book, CodeRecord
from interp.codebooks.tokfsm_results import Kind
from interp.errors import ConfigError
from interp.studies.tokfsm_machine import BASE, N_STATES, states_of

CodeTable = Mapping[str, Int[Tensor, "s g k"]]
"""By hook, the codes that stand for each of some classes."""
MATCHED = 10
"""A control is one of so many codes of the same codebook that come next to the chosen one in frequency, or of twice as
many as are active where that is more."""


def class_labels(token_ids: Int[Tensor, "b t"], kind: Kind) -> Int[Tensor, "b t"]:
    """The state that a token completes, or the state before it and the digit that it is; -1 elsewhere."""
    states = states_of(token_ids)
    if kind == "state":
        return states
    pairs = torch.full_like(token_ids, -1)
    pairs[:, 1:] = torch.where(states[:, :-1] >= 0, states[:, :-1] * BASE + token_ids[:, 1:], -1)
    return pairs


def record_labels(record: CodeRecord, kind: Kind) -> Int[ndarray, " n"]:
    """Classes of recorded tokens, whose rows are BOS and digits: BOS is not recorded, so positions begin at 1."""
    ids, position = record.token_ids, record.position
    before = np.concatenate([[0], ids[:-1]])
    if kind == "state":
        return np.where(position % 2 == 0, before * BASE + ids, -1)
    two_before = np.concatenate([[0, 0], ids[:-2]])
    inside = (position % 2 == 1) & (position >= 3)
    return np.where(inside, (two_before * BASE + before) * BASE + ids, -1)


def n_classes(kind: Kind) -> int:
    """How many labels there are; some pairs never occur, as their digit cannot follow."""
    return N_STATES * (BASE if kind == "pair" else 1)


@dataclass(frozen=True, slots=True)
class ClassCodes:
    """The k codes of each codebook that are active most often on tokens of each class, and how many tokens it has.

    Shapes: counts (s,). The codes of a class that has none mean nothing.
    """

    kind: Kind
    codes: CodeTable
    counts: Int[ndarray, " s"]

    @property
    def recorded(self) -> Bool[Tensor, " s"]:
        """Classes whose codes are known."""
        return torch.from_numpy(self.counts > 0)


def codes_of_classes(record: CodeRecord, codebooks: Codebooks, kind: Kind) -> ClassCodes:
    """What the record tells of every class; slow for many codes, so once for all places."""
    labels, n = record_labels(record, kind), n_classes(kind)
    table = {}
    for hook, quantiser in codebooks.items():
        best = [_commonest(record.book(hook, group), labels, n, quantiser.k) for group in range(quantiser.n_groups)]
        table[hook] = torch.from_numpy(np.stack(best, axis=1))
    return ClassCodes(kind, table, np.bincount(labels[labels >= 0], minlength=n))


def _commonest(book: Book, labels: Int[ndarray, " n"], n: int, k: int) -> Int[ndarray, "s k"]:
    return np.argsort(-contingency(book, labels, n), axis=0, kind="stable")[:k].T.astype(np.int64)


def matched_codes(record: CodeRecord, codes: CodeTable, generator: np.random.Generator) -> CodeTable:
    """For each class as many other codes of the same codebook, all different, about as frequent as its own.

    Every class is drawn for by itself: two draws agree in all of them by an improbable chance only.
    Raises: ConfigError if a codebook has fewer than two codes for each active one.
    """
    return {
        hook: torch.stack(
            [_others(record.book(hook, g), chosen[:, g].numpy(), generator) for g in range(chosen.shape[1])], dim=1
        )
        for hook, chosen in codes.items()
    }


def _others(book: Book, chosen: Int[ndarray, "s k"], generator: np.random.Generator) -> Int[Tensor, "s k"]:
    k, n_free = chosen.shape[1], book.n_codes - chosen.shape[1]
    if n_free < k:
        raise ConfigError(f"got {book.n_codes} codes, {k} active; expected twice as many for random ones beside them")
    order = np.argsort(-book.counts(), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    # Ranks among the codes that are free for a class: those of its own come off.
    own = np.sort(rank[chosen], axis=1) - np.arange(k)
    window = min(max(2 * k, MATCHED), n_free)
    # At the ends the window is moved, not cut.
    low = np.clip(own - window // 2, 0, n_free - window)
    drawn = low + generator.integers(0, window, size=own.shape)
    while (again := _repeated(drawn)).any():
        drawn[again] = low[again] + generator.integers(0, window, size=int(again.sum()))
    skipped = (own[:, None] <= drawn[:, :, None]).sum(2)
    return torch.from_numpy(order[drawn + skipped])


def _repeated(drawn: Int[ndarray, "s k"]) -> Bool[ndarray, "s k"]:
    """Whether an entry's value stands before it in its row."""
    by_value = np.argsort(drawn, axis=1, kind="stable")
    values = np.take_along_axis(drawn, by_value, axis=1)
    same = np.zeros(drawn.shape, dtype=np.bool_)
    np.put_along_axis(same, by_value[:, 1:], values[:, 1:] == values[:, :-1], axis=1)
    return same
