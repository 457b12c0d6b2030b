"""Codes for what one is looking for: a regular expression over the text, a token, or a label of tokens.

Axes: n tokens.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from interp.codebooks.inspection import contingency
from interp.codebooks.precision import LEAST_FIRINGS, LEAST_RECALL, halves
from interp.codebooks.record import CodeRecord
from interp.errors import ConfigError, DataError
from interp.storage import read_json


@dataclass(frozen=True, slots=True)
class FoundCode:
    """A code for what was looked for. precision, recall: on odd documents, chosen on even ones; share: of all tokens
    at which it is active; fit_precision: on even ones."""

    name: str
    precision: float
    recall: float
    fit_precision: float
    share: float


def expression_of(pattern: str) -> re.Pattern[str]:
    """A pattern, ready to search.

    Raises: ConfigError if it is empty or no regular expression.
    """
    if not pattern:
        raise ConfigError("got an empty pattern, which matches everywhere; give one such as ' (he|she)'")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"got pattern {pattern!r}: {error}; give a regular expression of Python") from None


def iter_matches(
    record: CodeRecord, expression: re.Pattern[str], texts: Sequence[str]
) -> Iterator[tuple[Int[ndarray, " m"], Int[ndarray, " m"], re.Match[str]]]:
    """Every match that holds a character, none across rows or documents, with the tokens it was looked for in.

    Shapes: places of these m tokens in the record, and where in their joined text each of them ends. `texts` is what
    each token id adds to a text.
    """
    edges = np.flatnonzero((np.diff(record.row) != 0) | (np.diff(record.document) != 0)) + 1
    for places in np.split(np.arange(len(record)), edges):
        pieces = [texts[token] for token in record.token_ids[places]]
        ends = np.cumsum([len(piece) for piece in pieces])
        for match in expression.finditer("".join(pieces)):
            if match.end() > match.start():
                yield places, ends, match


def matching_tokens(record: CodeRecord, pattern: str, texts: Sequence[str]) -> Bool[ndarray, " n"]:
    """Tokens at which a match of the regular expression ends: only there has the model read all of it.

    `texts` is what each token id adds to a text.
    Raises: ConfigError if it is empty or no regular expression.
    """
    found = np.zeros(len(record), dtype=bool)
    for places, ends, match in iter_matches(record, expression_of(pattern), texts):
        found[places[int(np.searchsorted(ends, match.end()))]] = True
    return found


def token_matches(record: CodeRecord, token: str, texts: Sequence[str]) -> Bool[ndarray, " n"]:
    """Tokens whose text is just this, spaces around it left aside.

    Raises: ConfigError if it is empty or there is no such token.
    """
    if not token.strip():
        raise ConfigError(f"got token {token!r}, which is nothing but space; give a token such as dog, or a pattern")
    ids = [index for index, text in enumerate(texts) if text.strip() == token.strip()]
    if not ids:
        raise ConfigError(f"got token {token!r}, which is not one token of this model; give a pattern instead")
    return np.isin(record.token_ids, ids)


def read_word_sets(path: Path) -> dict[str, list[str]]:
    """Sets of words by label, from a JSON object.

    Raises: DataError if the file holds something else; ArtifactError if it is not there.
    """
    held = read_json(path)
    words = held.values() if isinstance(held, dict) else [None]
    if not all(isinstance(some, list) and all(isinstance(word, str) for word in some) for some in words):
        raise DataError(f'{path}: expected a JSON object such as {{"animals": ["cat", "dog"]}}; rewrite the file')
    return dict(held)


def label_tokens(
    record: CodeRecord, sets: Mapping[str, Sequence[str]], texts: Sequence[str]
) -> tuple[Int[ndarray, " n"], tuple[str, ...]]:
    """The class of each token by its text, spaces and case left aside; -1 for none."""
    names = tuple(sets)
    of = {word.strip().lower(): index for index, name in enumerate(names) for word in sets[name]}
    by_id = np.array([of.get(text.strip().lower(), -1) for text in texts])
    return by_id[record.token_ids], names


def search_codes(record: CodeRecord, wanted: Bool[ndarray, " n"], *, n: int = 10) -> tuple[FoundCode, ...]:
    """Codes that are active on the wanted tokens and on little else, the most precise first.

    Chosen on even documents among those that find more than 1% there and are active ten times; judged on odd ones.
    Raises: DataError if too few tokens are wanted to choose and to judge.
    """
    fit, judge = halves(record)
    n_fit, n_judge = int((wanted & fit).sum()), int((wanted & judge).sum())
    if not n_fit or not n_judge:
        raise DataError(
            f"got {n_fit + n_judge} matching tokens in {len(record):,}; expected some in either half of the documents; "
            "look for something commoner, or inspect the run with more --tokens"
        )
    kind = np.where(wanted, 0, 1)
    on_fit, on_judge = (np.where(half, kind, -1) for half in (fit, judge))
    found = []
    for book in record.books:
        chosen, judged = (contingency(book, labels, 2) for labels in (on_fit, on_judge))
        precision = chosen[:, 0] / np.maximum(chosen.sum(1), 1)
        recall = chosen[:, 0] / n_fit
        for code in np.flatnonzero((recall > LEAST_RECALL) & (chosen.sum(1) >= LEAST_FIRINGS)):
            hits, fires = int(judged[code, 0]), int(judged[code].sum())
            share = float(chosen[code].sum() + fires) / len(record)
            one = FoundCode(
                str(book.code(int(code))), hits / max(fires, 1), hits / n_judge, float(precision[code]), share
            )
            found.append((float(precision[code]), float(recall[code]), one))
    found.sort(key=lambda item: item[:2], reverse=True)
    return tuple(one for _, _, one in found[:n])
