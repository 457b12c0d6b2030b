from pathlib import Path

import pytest

from interp.document_hash import split_share
from interp.errors import DataError
from interp.pretraining.texts import read_texts
from tests.stories import invented_stories, tiny_pretraining
from tests.texts import write_jsonl


def test_no_text_stands_on_both_sides_and_none_is_lost(tmp_path: Path):
    stories = invented_stories(300)
    config = tiny_pretraining(tmp_path, dataset=str(write_jsonl(tmp_path / "twice.jsonl", stories + stories)))
    texts = read_texts(config)
    assert not set(texts.train) & set(texts.heldout)
    assert set(texts.train) | set(texts.heldout) == set(stories)
    assert len(texts.train) + len(texts.heldout) == len(set(stories))


def test_side_depends_on_the_text_alone(tmp_path: Path):
    stories = list(dict.fromkeys(invented_stories(200)))
    forwards = read_texts(tiny_pretraining(tmp_path, dataset=str(write_jsonl(tmp_path / "a.jsonl", stories))))
    backwards = read_texts(tiny_pretraining(tmp_path, dataset=str(write_jsonl(tmp_path / "b.jsonl", stories[::-1]))))
    assert set(forwards.heldout) == set(backwards.heldout)


def test_shares_are_uniform():
    shares = [split_share(f"story {i}") for i in range(4000)]
    assert 0 <= min(shares) < 0.01
    assert 0.99 < max(shares) < 1
    assert abs(sum(share < 0.05 for share in shares) / 4000 - 0.05) < 0.015


def test_one_document_cannot_be_split(tmp_path: Path):
    config = tiny_pretraining(tmp_path, dataset=str(write_jsonl(tmp_path / "one.jsonl", ["Only this."])))
    with pytest.raises(DataError, match="both are needed"):
        read_texts(config)
