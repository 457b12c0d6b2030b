"""Concept files, the bundled sets, splits and intervals."""

import json
import math
import re

import numpy as np
import pytest

import interp
from interp.errors import ArtifactError, ConfigError, DataError
from probes.benchmark_rows import FEATURES, ORACLE, Row, pool
from probes.concept_activations import place_text
from probes.concept_files import load_concepts, load_ravel, save_concepts
from probes.concept_generator import bundled_concepts, names_hierarchy
from probes.concept_tasks import balanced, tasks_of
from probes.intervals import Score, cluster_interval, mean_of
from tests.planted import planted, several_classes


@pytest.fixture(scope="module")
def model():
    return interp.load_model("embedded", device="cpu")


@pytest.fixture(scope="module")
def bundled(model):
    return bundled_concepts(model.tokenizer)


def test_a_file_gives_back_what_was_written(bundled, tmp_path):
    path = tmp_path / "concepts.jsonl"
    save_concepts(path, bundled)
    assert load_concepts(path) == bundled


def _example(**more):
    return {"text": "She ran", "at": [4, 7], "labels": {"tense": "past"}, **more}


_SET = {
    "kind": "examples",
    "name": "verbs",
    "attributes": {"tense": ["past", "present"]},
    "examples": [_example(), _example(), _example(), _example(labels={"tense": "present"})],
}
_PEOPLE = {
    "kind": "entities",
    "name": "people",
    "entities": {name: {"gender": "f"} for name in ("A", "B", "C", "D")},
    "templates": {"gender": ["%s smiled because"]},
}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({**_SET, "kind": "verbs"}, "examples"),
        ({**_SET, "attributes": {"tense": ["past"]}}, "at least two"),
        ({**_SET, "examples": _SET["examples"][:3] * 2}, "present"),
        ({**_SET, "examples": [*_SET["examples"], _example(at=[4, 70])]}, "within the 7 characters"),
        ({**_SET, "examples": [*_SET["examples"], _example(labels={"tense": "future"})]}, "'future'"),
        ({**_SET, "examples": [*_SET["examples"], _example(colour="red")]}, "colour"),
        ({"kind": "hierarchy", "name": "n", "parent": "p", "children": {"a": ["x"], "b": ["x"]}}, "'x' stands there"),
        ({"kind": "hierarchy", "name": "n", "parent": "p", "children": {"a": []}}, "no word"),
        ({**_PEOPLE, "templates": {"gender": ["smiled because"]}}, "one %s"),
        ({**_PEOPLE, "templates": {"age": ["%s was"]}}, "has no age"),
        ({**_PEOPLE, "answers": {"gender": {"m": " he"}}}, "none for 'f'"),
        ([1, 2], "valid"),
    ],
)
def test_a_malformed_record_is_told_in_one_line(record, says, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"\n{json.dumps(record)}\n")
    with pytest.raises(DataError) as caught:
        load_concepts(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 2")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl", "{not json"), ("a.yaml", "kind: x"), ("a.yaml", "[a: {"), ("a.txt", "x"), ("a.jsonl", "\n")],
)
def test_a_file_that_is_none_is_told_by_name(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_concepts(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_concepts(tmp_path / "absent.yaml")


def test_two_sets_of_one_name_are_refused(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text(f"{json.dumps(_SET)}\n" * 2)
    with pytest.raises(ConfigError, match="stands there twice"):
        load_concepts(path)


def test_no_word_and_no_sentence_stands_on_both_sides(bundled):
    for held in bundled.examples:
        for attribute in ("unit", "template"):
            sides = [{getattr(e, attribute) for e in held.examples if e.side == side} for side in ("train", "test")]
            assert sides[0]
            assert sides[1]
            assert not sides[0] & sides[1], (held.name, attribute)


def test_bundled_words_are_whole_pieces_and_the_same_every_time(bundled, model):
    assert bundled_concepts(model.tokenizer) == bundled
    for held in bundled.examples:
        for example in held.examples[:: max(1, len(held.examples) // 40)]:
            row = place_text(model, example.text, example.place, held.name)
            # The text ends with the word, so its last token is the word's.
            assert row.place == len(row.token_ids) - 1
            assert example.text[slice(*example.place)].endswith(model.tokenizer.decode([row.token_ids[-1]]).strip())


def test_the_bundled_names_are_apart():
    hierarchy = names_hierarchy()
    assert not set(hierarchy.ignored) & set(hierarchy.child_of())
    assert set(hierarchy.children) == {"female", "male"}


def test_a_place_without_a_token_or_a_text_too_long_is_refused(model):
    with pytest.raises(DataError, match="reads at most"):
        place_text(model, "cat " * 400, (0, 3), "x")
    with pytest.raises(DataError, match="no token stands"):
        place_text(model, "a cat", (40, 50), "x")


def test_tasks_are_balanced_and_split_by_word():
    for data in (planted(), several_classes(5)):
        for task in tasks_of(data):
            assert not set(data.word[task.train]) & set(data.word[task.test])
            for side in ("train", "test"):
                assert task.answers(side).mean() == 0.5
    assert len(tasks_of(planted())) == 2
    assert len(tasks_of(several_classes(5))) == 5


def test_balancing_takes_all_of_the_rarer_answer():
    y = np.arange(20) < 5
    rows = balanced(np.arange(20), y, seed=0)
    assert set(rows[y[rows]]) == set(range(5))
    assert rows.size == 10


def test_intervals_resample_clusters():
    one = cluster_interval(mean_of(np.ones(6)), np.arange(6) // 2)
    assert (one.value, one.interval) == (1.0, (1.0, 1.0))
    assert cluster_interval(mean_of(np.arange(4.0)), np.zeros(4, dtype=int)).interval is None
    # Two words, one always right and one never: either can be drawn twice.
    two = cluster_interval(mean_of(np.repeat([0.0, 1.0], 100)), np.repeat([0, 1], 100))
    assert two.value == 0.5
    assert two.interval == (0.0, 1.0)


def test_figures_of_seeds_are_pooled_and_what_is_undefined_stays_so():
    def row(arm, value):
        return Row("m", "c", "q", arm, 1, Score(value, (0.0, 1.0)))

    held = pool([[row(FEATURES, 0.2), row(ORACLE, 0.9)], [row(FEATURES, 0.4), row(ORACLE, 0.9)]])
    features, oracle = held
    assert features.mean == pytest.approx(0.3)
    assert features.sd == pytest.approx(0.1 * math.sqrt(2))
    # The oracle does not look at the dictionary: a deviation of nought would say something else.
    assert (oracle.mean, oracle.sd) == (0.9, None)
    undefined = pool([[row(FEATURES, math.nan)], [row(FEATURES, 0.4)]])[0]
    assert math.isnan(undefined.mean)
    assert undefined.to_json()["seeds"] == [None, 0.4]


def test_ravels_own_files_are_read(data_folder):
    verbs = load_ravel(data_folder / "corpora" / "ravel", "verb")
    assert verbs.entities["abandon"]["Past Tense"] == "abandoned"
    assert set(verbs.answers) == set(verbs.templates)
    assert {verbs.side(entity) for entity in verbs.entities} == {"train", "test"}


def test_absent_files_of_ravel_are_told(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        load_ravel(tmp_path, "city")
