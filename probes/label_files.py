"""Labels from files: treebanks in CoNLL-U, tables in CSV, records in JSONL."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from interp.errors import DataError
from interp.storage import is_there
from probes.conllu import Word, read_conllu
from probes.probe_labels import LabelledText, Place
from probes.treebank import noun_number, verb_tense

_NO_WORDS = ("PUNCT", "SYM", "X")


def universal_part(word: Word) -> str | None:
    """The universal part of speech; None for punctuation, symbols and what is no word."""
    return None if word.upos in _NO_WORDS else word.upos


def relation(word: Word) -> str | None:
    """The relation to the head without its subtype (nmod:poss is nmod); None for punctuation."""
    return None if word.upos in _NO_WORDS or not word.relation else word.relation.split(":")[0]


CONLLU_ATTRIBUTES: Mapping[str, Callable[[Word], str | None]] = {
    "pos": universal_part,
    "number": noun_number,
    "tense": verb_tense,
    "relation": relation,
}
"""pos: part of speech; number: of nouns; tense: of finite verbs; relation: to the head."""


def labels_from_conllu(path: Path, attributes: tuple[str, ...] = tuple(CONLLU_ATTRIBUTES)) -> list[LabelledText]:
    """Every sentence of a treebank; words by their lemma, documents as the file names them (else each sentence).

    Raises: DataError if the file is missing or malformed, or an attribute is unknown.
    """
    if unknown := [name for name in attributes if name not in CONLLU_ATTRIBUTES]:
        raise DataError(f"labels.attributes: got {unknown[0]!r}; expected some of {', '.join(CONLLU_ATTRIBUTES)}")
    found = []
    for sentence in read_conllu(_treebank(path)):
        places = tuple(
            Place(word.start, word.end, word.lemma.lower(), labels)
            for word in sentence.words
            if (labels := _labels(word, attributes))
        )
        found.append(LabelledText(sentence.text, sentence.document or sentence.text, places))
    return found


def _treebank(path: Path) -> Path:
    """The file, or a folder's *train*.conllu, or its only one."""
    if not is_there(path) or not path.is_dir():
        return path
    files = sorted(path.glob("*.conllu"))
    chosen = [file for file in files if "train" in file.name] or files
    if len(chosen) != 1:
        raise DataError(f"{path}: holds {len(files)} .conllu files and not one for training; give the file itself")
    return chosen[0]


def _labels(word: Word, attributes: tuple[str, ...]) -> dict[str, str]:
    answers = {name: CONLLU_ATTRIBUTES[name](word) for name in attributes}
    return {name: answer for name, answer in answers.items() if answer is not None}


def labels_from_records(path: Path, *, label_fields: tuple[str, ...] = ("label",)) -> list[LabelledText]:
    """One labelled place a row of a .csv, or an object a line of a .jsonl.

    Fields: `text`; the `label_fields`, empty where not labelled; `start` and `end` in characters (else the last word of
    the text carries the label); `word` (else the characters there, case aside); `document` (else the text). Rows of the
    same text that follow each other are read once.

    Raises: DataError naming the row and what is wrong with it.
    """
    rows = [_record(row, where, label_fields) for where, row in _iter_records(path)]
    if not rows:
        raise DataError(f"{path}: holds no record; expected rows with text and {', '.join(label_fields)}")
    return [
        LabelledText(text, document, tuple(place for *_, place in held))
        for (text, document), held in groupby(rows, key=lambda row: row[:2])
    ]


def _iter_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; expected .csv or .jsonl")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                yield from ((f"{path}, row {number}", row) for number, row in enumerate(csv.DictReader(file), 1))
            else:
                yield from ((f"{path}, line {n}", _parsed(line, f"{path}, line {n}")) for n, line in enumerate(file, 1))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a .csv or .jsonl file of labels") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    except csv.Error as error:
        raise DataError(f"{path}: is no table in CSV ({error}); mend it, or give .jsonl") from None


def _parsed(line: str, where: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({str(error)[:80]}); expected one object a line") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: got {type(record).__name__}; expected one object a line")
    return record


def _record(row: Mapping[str, Any], where: str, label_fields: tuple[str, ...]) -> tuple[str, str, Place]:
    if missing := [name for name in ("text", *label_fields) if name not in row]:
        raise DataError(f"{where}: has no field {missing[0]!r} (got {', '.join(map(str, row))}); name the right ones")
    text = "" if row["text"] is None else str(row["text"])
    start, end = _characters(row, text, where)
    labels = {name: str(row[name]) for name in label_fields if row[name] not in (None, "")}
    place = Place(start, end, str(row.get("word") or text[start:end].strip().lower()), labels)
    return text, str(row.get("document") or text), place


def _characters(row: Mapping[str, Any], text: str, where: str) -> tuple[int, int]:
    if not text.strip():
        raise DataError(f"{where}: has no text; drop the row")
    if row.get("start") in (None, "") or row.get("end") in (None, ""):
        whole = text.rstrip()
        return len(whole) - len(whole.split()[-1]), len(whole)
    try:
        start, end = int(row["start"]), int(row["end"])
    except (TypeError, ValueError):
        raise DataError(f"{where}: got start {row['start']!r} and end {row['end']!r}; expected characters") from None
    if not 0 <= start < end <= len(text):
        raise DataError(f"{where}: got characters {start} to {end}; expected a place within the {len(text)} of text")
    return start, end
