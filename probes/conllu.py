"""Treebanks in CoNLL-U: sentences, their words, and where in the text each word stands.

Source: universaldependencies.org/format.html; columns ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import DataError
from interp.storage import is_there

_COLUMNS = 10
_TEXT = "# text = "
_DOCUMENT, _UNNAMED = "# newdoc id = ", "# newdoc"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a sentence: characters `start` to `end` (exclusive) of its text.

    features: morphology, such as {"Number": "Plur"}. relation: to its head, such as nsubj or nmod:poss.
    """

    form: str
    lemma: str
    upos: str
    features: Mapping[str, str]
    start: int
    end: int
    relation: str = ""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it was written, and those of its words that were found in it.

    document: what the file calls the document, or where that begins if it has no name; empty where it tells of none.
    """

    text: str
    words: tuple[Word, ...]
    document: str = ""


def read_conllu(path: Path) -> Iterator[Sentence]:
    """Sentences that have their text. Words that do not stand there as they are spelt are left out.

    Raises: DataError if the file is missing or cannot be read, or a line has another number of columns.
    """
    if not is_there(path):
        raise DataError(f"{path}: no such file; give a treebank in CoNLL-U")
    text: str | None = None
    document = ""
    rows: list[list[str]] = []
    for number, line in _lines(path):
        if line.startswith(_TEXT):
            text = line.removeprefix(_TEXT)
        elif line.startswith(_DOCUMENT):
            document = line.removeprefix(_DOCUMENT)
        elif line.rstrip() == _UNNAMED:
            document = f"document at line {number}"
        elif line and not line.startswith("#"):
            rows.append(_columns(line, path, number))
        elif not line:
            yield from _sentence(text, rows, document)
            text, rows = None, []
    yield from _sentence(text, rows, document)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, line.rstrip("\n")) for number, line in enumerate(file, 1))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a treebank in CoNLL-U") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None


def _columns(line: str, path: Path, number: int) -> list[str]:
    columns = line.split("\t")
    if len(columns) != _COLUMNS:
        raise DataError(f"{path}: line {number} has {len(columns)} columns; expected the {_COLUMNS} of CoNLL-U")
    return columns


def _sentence(text: str | None, rows: list[list[str]], document: str) -> Iterator[Sentence]:
    if text is None or not rows:
        return
    words, cursor = [], 0
    for identity, form, lemma, upos, _, features, _, relation, *_ in rows:
        # Ranges are contractions, whose parts follow; decimals are words that were never written.
        start = text.find(form, cursor) if identity.isdigit() else -1
        if start < 0:
            continue
        cursor = start + len(form)
        words.append(Word(form, lemma, upos, _features(features), start, cursor, relation))
    yield Sentence(text, tuple(words), document)


def _features(column: str) -> dict[str, str]:
    return {} if column == "_" else dict(pair.split("=", 1) for pair in column.split("|") if "=" in pair)
