import io
import json
import sys

import pytest

from interp.errors import DataError
from interp.texts import open_texts

PLAIN = b"\xef\xbb\xbfone two\r\nthree\n\n\nfour\nfive"


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(PLAIN)
    return str(path)


def test_lines_keep_their_numbers_and_lose_their_ends(plain):
    texts = open_texts(plain)
    assert list(texts) == ["one two", "three", "", "", "four", "five"]
    assert texts.n_documents == 6
    assert list(texts) == list(texts)


def test_a_whole_file_or_its_paragraphs_may_be_the_documents(plain, tmp_path):
    assert [text.split() for text in open_texts(plain, unit="file")] == [["one", "two", "three", "four", "five"]]
    (tmp_path / "a.txt").write_text("first\n\nsecond")
    assert [len(text.split()) for text in open_texts(str(tmp_path), unit="file")] == [2, 5]
    assert list(open_texts(str(tmp_path / "a.txt"), unit="paragraph")) == ["first", "second"]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("line", ["one two", "three", "", "", "four", "five"]), ("paragraph", ["one two\r\nthree", "four\nfive"])],
)
def test_standard_input_is_read_as_it_comes(monkeypatch, unit, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PLAIN)))
    texts = open_texts("-", unit=unit)
    assert texts.n_documents is None
    assert list(texts) == expected


def test_records_are_read_by_their_field(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in ("one", "", "two")))
    assert list(open_texts(str(path), text_field="body")) == ["one", "", "two"]
    with pytest.raises(DataError, match="no field 'text'"):
        open_texts(str(path))


def test_what_cannot_be_read_is_told_before_anything_is_computed(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_texts(str(tmp_path / "none.txt"))
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        open_texts(str(tmp_path / "latin.txt"))
