"""Copies are found, different texts stay, reading from the middle gives the same documents, memory is bounded."""

import random

import numpy as np
import pytest

from interp.datasets import DataConfig, open_stream
from interp.deduplication import SeenKeys, exact_key, near_keys, without_duplicates
from interp.documents import open_documents
from interp.errors import ConfigError
from interp.word_ngrams import mix
from tests.families import tiny_model
from tests.texts import tiny_texts, write_jsonl


def text(seed, n=300):
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(2000)}" for _ in range(n))


def with_changes(text, n_changes, seed):
    words, draw = text.split(), random.Random(seed)
    for place in draw.sample(range(len(words)), n_changes):
        words[place] = f"other{place}"
    return " ".join(words)


def share_a_band(one, two):
    return bool(set(near_keys(one).tolist()) & set(near_keys(two).tolist()))


def test_spacing_case_and_punctuation_make_no_new_document():
    assert exact_key("A dog ran.") == exact_key("a  DOG ran") != exact_key("a dog ran off")
    assert exact_key("...") == exact_key("") != exact_key("a")


@pytest.mark.parametrize(("n_changes", "expected"), [(0, 1.0), (1, 0.95), (60, 0.0)])
def test_near_copies_are_found_and_others_are_not(n_changes, expected):
    """One changed word of 300 spoils 13 of 288 runs (Jaccard .91, found with probability 1 - (1 - .91^8)^16 > .999)."""
    texts = [text(seed) for seed in range(40)]
    found = np.mean([share_a_band(x, with_changes(x, n_changes, seed)) for seed, x in enumerate(texts)])
    assert found == 0.0 if expected == 0.0 else found >= expected


def test_texts_shorter_than_a_run_are_near_only_if_equal():
    assert share_a_band("a short text", "A short text!")
    assert not share_a_band("a short text", "a short test")


def test_bands_agree_as_often_as_the_definition_says():
    """P(a band agrees) = s^8 for Jaccard similarity s, here of 160-word texts that share most of their runs."""
    draw = random.Random(0)
    agreed, expected = [], []
    for _ in range(150):
        base = [f"x{draw.randrange(10**6)}" for _ in range(160)]
        other = [*base[:-3], "p", "q", "r"]
        agreed.append(np.mean(near_keys(" ".join(base)) == near_keys(" ".join(other))))
        # 148 runs each, of which 145 are shared.
        expected.append((145 / 151) ** 8)
    assert np.mean(agreed) == pytest.approx(np.mean(expected), abs=0.04)


def test_nothing_is_forgotten_and_little_is_invented():
    seen, numbers = SeenKeys(1), mix(np.arange(400_000, dtype=np.uint64))
    first = np.concatenate([seen.add(part) for part in np.split(numbers[:200_000], 40)])
    # 200,000 numbers in 8 Mi bits: the told chance is a few in a million.
    assert first.mean() <= 1e-4
    assert seen.add(numbers[:200_000]).all()
    full = SeenKeys(1)
    for part in np.split(mix(np.arange(1_000_000, dtype=np.uint64) + np.uint64(10**7)), 100):
        full.add(part)
    told = full.chance_of_error()
    assert full.add(numbers[200_000:210_000]).mean() == pytest.approx(told, rel=0.3)


@pytest.fixture
def doubled(tmp_path):
    """Forty documents; every third is there again, changed in one word, ten documents later."""
    texts = [text(seed) for seed in range(40)]
    for i in range(0, 30, 3):
        texts[i + 10] = with_changes(texts[i], 1, i) if i % 2 else texts[i].upper()
    return str(write_jsonl(tmp_path / "t.jsonl", texts))


def test_copies_are_left_out_and_the_rest_keeps_its_numbers(doubled):
    documents = open_documents(doubled)
    exact = {n for n, _ in without_duplicates(documents, "exact", mebibytes=1).iter_from()}
    near = {n for n, _ in without_duplicates(documents, "near", mebibytes=1).iter_from()}
    changed = {i + 10 for i in range(3, 30, 6)}
    assert near == set(range(40)) - {i + 10 for i in range(0, 30, 3)}
    assert exact == near | changed
    assert without_duplicates(documents, "no", mebibytes=1) is documents


def test_from_any_document_on_the_same_ones_are_left_out(doubled):
    documents = without_duplicates(open_documents(doubled), "near", mebibytes=1)
    every = list(documents.iter_from())
    for start in (1, 11, 25, 39):
        assert list(documents.iter_from(start)) == [pair for pair in every if pair[0] >= start]


def test_more_documents_than_memory_are_told(doubled, monkeypatch):
    class Filled(SeenKeys):
        """As after this many documents of 16 keys each."""

        n_documents = 0

        def __init__(self, mebibytes):
            super().__init__(mebibytes)
            self.n_added = 16 * self.n_documents

    monkeypatch.setattr("interp.deduplication.SeenKeys", Filled)
    documents = without_duplicates(open_documents(doubled), "near", mebibytes=1)
    # 64 MiB are told to be enough for about 2 million.
    Filled.n_documents = 2_000_000 // 64
    assert list(documents.iter_from())
    Filled.n_documents *= 2
    with pytest.raises(ConfigError, match="1 MiB cannot tell apart more than 0 documents"):
        list(documents.iter_from())


def test_a_stream_reads_each_document_once_and_its_cursor_holds(tmp_path):
    texts = tiny_texts(30, longest=40)
    path = str(write_jsonl(tmp_path / "t.jsonl", texts + texts))
    config = DataConfig(context_size=16, batch_tokens=64, deduplicate="exact")
    model = tiny_model("llama")
    stream = open_stream(path, model, config, split="all")
    once = open_stream(str(write_jsonl(tmp_path / "once.jsonl", texts)), model, config, split="all")
    assert [batch.token_ids.tolist() for batch in stream.iter_pass()] == [
        batch.token_ids.tolist() for batch in once.iter_pass()
    ]
    assert stream.facts["deduplicate"] == {"by": "exact", "mebibytes": 64}
    pairs = [pair for pair, _ in zip(stream.iter_from({}), range(20), strict=False)]
    again, batch = next(iter(stream.iter_from(pairs[7][0])))
    assert (again, batch.token_ids.tolist()) == (pairs[7][0], pairs[7][1].token_ids.tolist())
