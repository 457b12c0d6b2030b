import pytest

from interp.pretraining.overlap import verbatim_overlap, without_overlap, word_ngrams


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
    text = " ".join(f"w{i}" for i in range(20))
    assert verbatim_overlap([text], [text]).ngram_share == 1.0
    assert verbatim_overlap([text], []).ngram_share == 0.0
    assert len(list(word_ngrams(text, 13))) == 8
