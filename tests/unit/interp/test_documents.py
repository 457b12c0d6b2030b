import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from interp.documents import open_documents
from interp.errors import DataError
from tests.texts import write_jsonl

TEXTS = ["one\ntwo", "drei", "四 👍"]


def _write(tmp_path, suffix):
    path = tmp_path / f"d{suffix}"
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    if suffix == ".txt":
        path.write_text("\n\n\n".join(TEXTS) + "\n", encoding="utf-8")
    elif suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path)
    else:
        path.write_text(lines)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_documents(tmp_path, suffix):
    documents = open_documents(str(_write(tmp_path, suffix)))
    assert list(documents.iter_from()) == list(enumerate(TEXTS))
    assert list(documents.iter_from(2)) == [(2, TEXTS[2])]


def test_a_folder_is_its_files_in_order(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", ["later"])
    write_jsonl(tmp_path / "a.jsonl", ["first"])
    assert [text for _, text in open_documents(str(tmp_path)).iter_from()] == ["first", "later"]


def test_the_hash_follows_the_content(tmp_path):
    one = open_documents(str(write_jsonl(tmp_path / "a.jsonl", ["x"]))).content_hash
    same = open_documents(str(write_jsonl(tmp_path / "b.jsonl", ["x"]))).content_hash
    other = open_documents(str(write_jsonl(tmp_path / "a.jsonl", ["y"]))).content_hash
    assert one == same != other


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"txt": 1}\n', "line 2: no field 'text' (got txt)"),
        ("a.jsonl", b'{"text": 5}\n', "holds int; expected text"),
        ("a.jsonl", b"[1]\n", "no field 'text' (got list)"),
        ("a.jsonl", b"{oops\n", "line 1: not valid JSON"),
        ("a.jsonl", b"\xff\xfe\n", "not UTF-8"),
        ("a.txt", b"abc \xff", "not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 999)[:-20], "gzip"),
        ("a.parquet", b"PAR1 nonsense", "not a whole Parquet file"),
        ("a.csv", b"x", "cannot read .csv"),
    ],
)
def test_unreadable_text_is_told_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(open_documents(str(path)).iter_from())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_empty_folders_are_told(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_documents(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="holds no text"):
        open_documents(str(tmp_path))


def test_a_wrong_parquet_column_names_the_right_ones(tmp_path):
    with pytest.raises(DataError, match="it has text"):
        list(open_documents(str(_write(tmp_path, ".parquet")), text_field="story").iter_from())
