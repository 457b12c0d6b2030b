from itertools import count

import pytest

from interp.datasets import DataConfig, TokenStream
from interp.documents import Documents
from interp.overlap import overlap_facts, verbatim_overlap, without_overlap
from interp.word_ngrams import ngram_hashes
from tests.families import tiny_model


def words(start, stop):
    return " ".join(f"w{i}" for i in range(start, stop))


def test_hand_case():
    reference = ["The cat sat on the mat.", "A dog ran."]
    texts = ["the CAT sat, on a mat", "no such words here", "A dog"]
    found = verbatim_overlap(texts, reference, n=3)
    # the cat sat, cat sat on | sat on a, on a mat; no such words, such words here; "A dog" is too short to have any.
    assert (found.n_documents, found.n_ngrams) == (3, 6)
    assert found.document_share == pytest.approx(1 / 3)
    assert found.ngram_share == pytest.approx(2 / 6)
    assert without_overlap(texts, reference, n=3) == texts[1:]


def test_a_text_overlaps_itself_wholly_and_nothing_not_at_all():
    text = words(0, 20)
    assert verbatim_overlap([text], [text]).ngram_share == 1.0
    assert verbatim_overlap([text], []).ngram_share == 0.0
    assert verbatim_overlap([], [text]).n_documents == 0
    assert ngram_hashes(text, 13).shape == (8,)


@pytest.mark.parametrize("text", ["too short", "今天天气很好，我们去公园散步。你想一起来吗？"])
def test_without_any_run_of_words_nothing_is_said(text):
    found = verbatim_overlap([text], [text])
    assert (found.n_documents, found.n_ngrams) == (1, 0)
    assert found.document_share is None
    assert found.ngram_share is None


def endless(read):
    """A data set without end that notes how many documents were read."""

    def texts(_):
        for i in count():
            read.append(i)
            yield {}, f"w{4 + i % 36} w{4 + i // 36 % 36} w5"

    return Documents("endless", "hash", texts)


@pytest.mark.parametrize(("share", "n_most"), [(0.0, 0), (1e-9, 100)])
def test_what_is_hardly_held_out_is_not_looked_for_without_bound(monkeypatch, share, n_most):
    monkeypatch.setattr("interp.datasets.READ_DOCUMENTS", 100)
    read = []
    stream = TokenStream(endless(read), tiny_model("llama"), DataConfig(context_size=16, heldout_share=share))
    found = stream.overlap(stream.with_split("heldout"))
    assert len(read) == n_most
    assert (found == {}) == (share == 0.0)


def test_repetitions_are_counted():
    assert verbatim_overlap([f"{words(0, 3)} {words(0, 3)}"], [words(0, 3)], n=3).ngram_share == pytest.approx(2 / 4)


def test_numbers_of_runs_go_by_words_and_their_order():
    assert ngram_hashes("One two, THREE", 3).tolist() == ngram_hashes("one two\nthree!", 3).tolist()
    runs = {ngram_hashes(text, 3)[0] for text in ("a b c", "c b a", "a a b", "b a a", "ab c d", "a bc d")}
    assert len(runs) == 6


def test_what_a_manifest_records():
    training = [words(i, i + 20) for i in range(0, 100, 20)]
    found = overlap_facts([words(0, 20), words(500, 520)], iter(training), n_training_documents=3)
    assert found["overlap_with_training"] == {
        "n": 13, "n_documents": 2, "n_ngrams": 16, "document_share": 0.5, "ngram_share": 0.5, "n_training_documents": 3,
    }  # fmt: skip
    beyond = overlap_facts([words(60, 80)], iter(training), n_training_documents=3)
    assert beyond["overlap_with_training"]["document_share"] == 0.0
    nothing = overlap_facts([], training, n_training_documents=3)["overlap_with_training"]
    assert nothing == {"not_measured": "no evaluation text among the first 100,000 documents"}
    assert overlap_facts(training, training, n_training_documents=0) == {}
