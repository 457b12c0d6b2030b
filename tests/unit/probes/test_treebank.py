"""A treebank read, and the questions that are made of it."""

import pytest

from interp.errors import DataError
from probes.conllu import read_conllu
from probes.treebank import OTHER, treebank_concepts
from tests.treebanks import write_treebank

SENTENCE = """# sent_id = 1
# text = I don't see dogs.
1\tI\tI\tPRON\tPRP\tNumber=Sing\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\tTense=Pres|VerbForm=Fin\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tsee\tsee\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\t_
4.1\tmany\tmany\tADJ\tJJ\t_\t_\t_\t_\t_
5\tdogs\tdog\tNOUN\tNNS\tNumber=Plur\t4\tobj\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_
"""


def test_words_stand_where_they_were_written(tmp_path):
    path = tmp_path / "one.conllu"
    path.write_text(SENTENCE)
    (sentence,) = read_conllu(path)
    assert [word.form for word in sentence.words] == ["I", "do", "n't", "see", "dogs", "."]
    assert all(sentence.text[word.start : word.end] == word.form for word in sentence.words)
    assert sentence.words[4].features == {"Number": "Plur"}
    assert (sentence.words[4].lemma, sentence.words[4].upos) == ("dog", "NOUN")


def test_a_word_that_was_respelt_is_left_out_and_the_next_one_found(tmp_path):
    path = tmp_path / "one.conllu"
    path.write_text(SENTENCE.replace("4\tsee\t", "4\tperceive\t"))
    (sentence,) = read_conllu(path)
    assert [word.form for word in sentence.words] == ["I", "do", "n't", "dogs", "."]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "one.conllu"
    path.write_text(SENTENCE + "7\tword\n")
    with pytest.raises(DataError, match="line 11 has 2 columns"):
        list(read_conllu(path))


def test_test_words_are_of_other_lemmas_and_other_sentences(tmp_path):
    sets = treebank_concepts(write_treebank(tmp_path / "bank"), per_class=15)
    assert [tuple(one.attributes) for one in sets] == [("part of speech",), ("noun number",), ("verb tense",)]
    for concept in sets:
        (attribute, classes), *_ = concept.attributes.items()
        train, test = ([one for one in concept.examples if one.side == side] for side in ("train", "test"))
        assert not {one.word for one in train} & {one.word for one in test}
        assert not {one.text for one in train} & {one.text for one in test}
        for name in classes:
            assert sum(one.labels[attribute] == name for one in train) <= 15
            assert sum(one.labels[attribute] == name for one in test) <= 7
    assert OTHER in sets[0].attributes["part of speech"]
    assert set(sets[1].attributes["noun number"]) == {"singular", "plural"}


def test_the_draw_is_the_same_for_the_same_seed(tmp_path):
    folder = write_treebank(tmp_path / "bank")
    first, again, other = (treebank_concepts(folder, per_class=6, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_what_is_missing_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"holds no \*train\*\.conllu"):
        treebank_concepts(tmp_path, per_class=10)
    folder = write_treebank(tmp_path / "bank", n_sentences=1)
    with pytest.raises(DataError, match="too few words"):
        treebank_concepts(folder, per_class=10)
