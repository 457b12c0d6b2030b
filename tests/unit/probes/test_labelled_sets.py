"""Labelled places of a file become examples that have every label that was asked for."""

import csv
from collections import Counter

import pytest

from interp.errors import DataError
from probes.labelled_sets import LEAST_PER_CLASS, labelled_set
from tests.treebanks import PARTS, write_treebank


def test_words_of_a_treebank_have_every_label(tmp_path):
    folder = write_treebank(tmp_path / "bank", n_sentences=60)
    found = labelled_set(folder, ("pos",), examples=200, seed=1)
    assert set(found.attributes["pos"]) == set(PARTS)
    assert 150 < len(found.examples) <= 200
    assert all(one.unit.startswith(one.text[slice(*one.at)]) for one in found.examples)
    # Only nouns have a number: together with it part of speech has one class.
    with pytest.raises(DataError, match="pos has fewer than two classes"):
        labelled_set(folder, ("pos", "number"), examples=200)


def _table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("text", "document", "tone", "length"))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _rows(n, tones=("glad", "sad")):
    return [
        {"text": f"line {i}", "document": f"d{i // 4}", "tone": tones[i % len(tones)], "length": "ab"[i // 2 % 2]}
        for i in range(n)
    ]


def test_clusters_are_words_or_documents(tmp_path):
    path = _table(tmp_path / "t.csv", _rows(48))
    by_word, by_document = (
        labelled_set(path, ("tone", "length"), examples=40, clusters=c) for c in ("word", "document")
    )
    assert len(by_word.examples) == 40
    assert {one.unit for one in by_document.examples} <= {f"d{i}" for i in range(12)}
    assert all(one.unit in one.text for one in by_word.examples)
    assert by_word.attributes == {"tone": ("glad", "sad"), "length": ("a", "b")}
    again = labelled_set(path, ("tone", "length"), examples=40)
    assert again == by_word


def test_rare_classes_are_left_out_wherever_they_stand(tmp_path):
    rows = [
        *_rows(60),
        *({**row, "tone": "odd"} for row in _rows(LEAST_PER_CLASS - 1)),
        *({**row, "tone": ""} for row in _rows(5)),
    ]
    found = labelled_set(_table(tmp_path / "t.csv", rows), ("tone", "length"), examples=1000)
    counts = Counter(one.labels["tone"] for one in found.examples)
    assert counts == {"glad": 30, "sad": 30}


def test_what_holds_no_two_classes_is_told(tmp_path):
    path = _table(tmp_path / "t.csv", _rows(40, tones=("glad",)))
    with pytest.raises(DataError, match="tone has fewer than two classes"):
        labelled_set(path, ("tone", "length"), examples=100)
    with pytest.raises(DataError, match="got no attributes"):
        labelled_set(path, (), examples=100)
    with pytest.raises(DataError, match="has no field 'colour'"):
        labelled_set(path, ("colour",), examples=100)


def test_texts_that_do_not_fit_are_left_out(tmp_path):
    path = _table(tmp_path / "t.csv", _rows(140))
    found = labelled_set(path, ("tone", "length"), examples=200, fits=lambda text: len(text) < 8)
    assert {one.text for one in found.examples} == {f"line {i}" for i in range(100)}
