"""The study of codebooks in a language model: sites of a word, its codes, results as written."""

import json
import math
import re

import numpy as np
import pytest

from interp.codebooks.detection import Detection
from interp.codebooks.evaluation import DocumentSums, LanguageScores
from interp.codebooks.language_results import (
    BASE,
    COLUMNS,
    COST_COLUMNS,
    PLAIN,
    STEERED_COLUMNS,
    CodebookLanguage,
    CodeSample,
    ConceptSteering,
    LanguageArm,
    WordWithoutCodes,
    cost_row,
    steered_row,
)
from interp.codebooks.names import CodeName
from interp.codebooks.record import Book, CodeRecord
from interp.codebooks.steered import CodeSteering, SteeredOutcome
from interp.errors import ArtifactError, ConfigError, DataError
from interp.studies.codebook_language import CodebookLanguageConfig
from interp.studies.codebook_language_steering import check_prompt, concept_codes, lower_bound, word_pattern, word_sites
from tests.families import tiny_model

HOOK = "blocks.0.attn.hook_z"
TEXTS = [" a", " do", "g", "s", " hot", "dog", ".", " Dog"]


def _record(tokens, row, books=()):
    at = np.arange(len(tokens))
    return CodeRecord(np.array(tokens), np.full(len(tokens), -1), np.array(row), at, np.array(row), tuple(books))


def test_a_word_is_expected_at_the_token_before_its_first_letter():
    # a do g . | a Dog . | hot dog . | do g s
    tokens = [0, 1, 2, 6, 0, 7, 6, 4, 5, 6, 1, 2, 3]
    row = [0] * 4 + [1] * 3 + [2] * 3 + [3] * 3
    found = word_sites(_record(tokens, row), "dog", TEXTS)
    # "hotdog" is another word, and what stands first in its row has nothing before it.
    assert np.flatnonzero(found).tolist() == [0, 4]


@pytest.mark.parametrize(
    ("text", "is_there"), [("a Dog.", True), ("two dogs", True), ("hotdog", False), ("do g", False)]
)
def test_a_word_stands_alone(text, is_there):
    assert bool(re.search(word_pattern("dog"), text)) is is_there


def _planted(n=2000):
    """Documents of ten tokens; one in ten is wanted; code 3 of group 1 is on just there, code 2 there and at random."""
    draw = np.random.default_rng(0)
    wanted = draw.random(n) < 0.1
    exact = np.where(wanted, 3, draw.integers(0, 3, n))
    loose = np.where(wanted | (draw.random(n) < 0.15), 2, draw.integers(0, 2, n))
    noise = draw.integers(0, 4, n)
    books = (Book(HOOK, 0, 4, noise[:, None]), Book(HOOK, 1, 4, exact[:, None]), Book(HOOK, 2, 4, loose[:, None]))
    return _record(draw.integers(0, 8, n), np.arange(n) // 10, books), wanted


def test_codes_of_a_word_are_all_that_are_precise_and_none_else():
    record, wanted = _planted()
    found = concept_codes(record, wanted, per_book=4, least_lift=3.0)
    assert found.codes == (CodeName(HOOK, 1, 3), CodeName(HOOK, 2, 2))
    active = record.books[2].ids[:, 0] == 2
    fit = np.arange(len(record)) // 10 % 2 == 0
    expected = [(1 + wanted[active & half].mean()) / 2 for half in (fit, ~fit)]
    np.testing.assert_allclose(found.precision, expected)


def test_the_bound_of_a_share_is_wilsons():
    share, count, z = np.array([0.0, 0.5, 1.0]), np.array([10, 40, 10]), 1.645
    found = lower_bound(share, count)
    # The bound is where the share lies z standard errors of that very bound above it.
    for p, n, low in zip(share, count, found, strict=True):
        assert p - low == pytest.approx(z * math.sqrt(low * (1 - low) / n), abs=1e-9)


def test_no_more_codes_are_taken_than_asked_for():
    record, wanted = _planted()
    assert concept_codes(record, wanted, per_book=4, least_lift=3.0, most=1).codes == (CodeName(HOOK, 1, 3),)


def test_a_word_without_codes_is_told():
    record, wanted = _planted()
    with pytest.raises(DataError, match="no code for them"):
        concept_codes(record, wanted, per_book=4, least_lift=11.0)


def _sums(nats, documents=(3, 5, 9)):
    n = len(nats)
    return DocumentSums(np.array(documents[:n]), np.array(nats), np.ones(n), np.array([2.0, 4.0, 4.0][:n]))


def test_a_loss_is_compared_document_by_document():
    value, between = _sums([3.0, 6.0, 5.0]).loss_above(_sums([2.0, 4.0, 3.0]))
    assert value == pytest.approx(0.5)
    # Every document's loss is half a nat higher: nothing is left to vary.
    assert between == pytest.approx((0.5, 0.5))
    with pytest.raises(DataError, match="other documents"):
        _sums([1.0, 2.0]).loss_above(_sums([1.0, 2.0, 3.0]))
    assert _sums([2.0, 4.0, 4.0]).scores().loss_nats == 1.0


def test_medians_and_their_difference_come_with_intervals_that_hold_them():
    aucs = np.linspace(0.6, 0.9, 30)
    codes = tuple(Detection(f"c{i}", 0.1, float(auc)) for i, auc in enumerate(aucs))
    sample = CodeSample("attn, k=1", codes, tuple(Detection("n", 0.1, float(auc) - 0.1) for auc in aucs))
    for value, (low, high) in (sample.median("codes"), sample.median("neurons"), sample.difference()):
        assert low < value < high
    assert sample.difference()[0] == pytest.approx(0.1)
    assert sample.difference()[1][0] > 0
    # Differences of medians of draws from both, in this order.
    draw = np.random.default_rng(0)
    drawn = [np.median(draw.choice(held, (2000, 30)), axis=1) for held in (aucs, aucs - 0.1)]
    np.testing.assert_allclose(sample.difference()[1], np.quantile(drawn[0] - drawn[1], (0.025, 0.975)))
    none = CodeSample("attn, k=1", (Detection("c", 0.0, math.nan),), ())
    assert math.isnan(none.median("codes")[0])
    assert math.isnan(none.difference()[0])


def test_a_prompt_leaves_room_to_write():
    model = tiny_model("gpt2")
    # A token begins each text.
    check_prompt(model, "w5 " * (model.context_size - 2))
    with pytest.raises(DataError, match=f"got a prompt of {model.context_size} tokens, which fills the context"):
        check_prompt(model, "w5 " * (model.context_size - 1))


def study():
    """A study in which everything is told."""
    scores = LanguageScores(1.5, (1.4, 1.6), 0.6, (0.58, 0.62), 100, 9)
    arms = (
        LanguageArm(BASE, 0, scores, 0.0, (-0.1, (-0.2, 0.0))),
        LanguageArm(PLAIN, 0, scores, 3.0),
        LanguageArm("attn, k=8", 0, scores, 4.0, (0.1, None), 0.25, 0.125),
    )
    codes = (Detection("0.attn.0.1", 0.01, 0.8), Detection("0.attn.1.0", 0.02, math.nan))
    steering = CodeSteering(
        ("0.attn.0.1",), "dog", "all", "Once", 4, SteeredOutcome(0.1, 5.0, 0.0, 1.0),
        SteeredOutcome(0.9, 20.0, 0.2, 0.8),
        (
            SteeredOutcome(0.1, 10.0, 0.1, 1.0), SteeredOutcome(0.95, 12.0, 0.1, 1.1),
            SteeredOutcome(0.2, 11.0, 0.1, 0.9),
        ),
        control_frequency=0.93,
    )  # fmt: skip
    word = ConceptSteering("dog", "attn, k=8", 40, 0.004, (0.1, 0.08), steering)
    samples = (CodeSample("attn, k=8", codes, codes[:1]),)
    without = WordWithoutCodes("owl", "attn, k=8", 3, 0.0003)
    return CodebookLanguage("tiny", "stories", "tiny", arms, samples, (word,), {"command": "interp study"}, (without,))


def test_a_study_is_read_as_it_was_written(tmp_path):
    study().save(tmp_path / "study.json")
    again = CodebookLanguage.load(tmp_path / "study.json")
    assert again.to_json() == study().to_json()
    assert again.arms == study().arms
    assert again.steerings == study().steerings
    assert again.without_codes == study().without_codes
    # Files that are older than words without codes.
    older = study().to_json()
    del older["without_codes"]
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert CodebookLanguage.load(tmp_path / "older.json").without_codes == ()
    (tmp_path / "other.json").write_text('{"study": "tokfsm"}')
    with pytest.raises(ArtifactError, match="no codebook-language study"):
        CodebookLanguage.load(tmp_path / "other.json")


def test_a_words_steering_is_read_as_it_was_written_and_damage_is_told(tmp_path):
    path, (word,) = tmp_path / "dog.json", study().steerings
    word.save(path)
    assert ConceptSteering.load(path) == word
    whole = json.loads(path.read_text())
    assert (whole["schema_version"], whole["kind"]) == (1, "concept_steering")
    damaged = [whole | {"precision": [0.1]}, whole | {"steering": []}, {k: whole[k] for k in whole if k != "arm"}]
    for held, says in [*((one, "is damaged") for one in damaged), ({"concept": "dog"}, "no steering by a word"),
                       (whole | {"schema_version": 2}, "of version 1"), ([], "no steering by a word")]:  # fmt: skip
        path.write_text(json.dumps(held))
        with pytest.raises(ArtifactError, match=f"{says}.*; remove it and run the study again"):
            ConceptSteering.load(path)


def test_ranks_among_random_codes_count_the_codes_themselves():
    (word,) = study().steerings
    # One of three random sets did as well; none came as near.
    assert word.steering.p == pytest.approx(2 / 4)
    assert word.steering.p_toward == pytest.approx(1 / 4)


def test_tables_have_a_cell_for_each_column():
    assert {len(row) for row in study().rows()} == {len(COLUMNS)}
    assert study().rows()[2][-1] == "1.66, 57.91%"
    (word,) = study().steerings
    assert len(steered_row(word)) == len(STEERED_COLUMNS)
    assert dict(zip(STEERED_COLUMNS, steered_row(word), strict=True))["random codes' frequency, ×"] == "0.93"
    assert len(cost_row(word)) == len(COST_COLUMNS)
    assert study().steered_rows()[0] == steered_row(word)
    assert study().steered_rows()[1][:3] == ("owl", "no code found (attn, k=8)", "3 (0.03%)")
    assert {len(row) for row in study().steered_rows()} == {len(STEERED_COLUMNS)}
    assert "k=8" in study()._repr_html_()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"k": [1, 1]}, "k: got"),
        ({"k": [8, 1], "steer_k": 4}, "steer_k: got 4"),
        ({"concepts": ["dog", " "]}, "concepts: got ' '"),
        ({"concepts": ["../dog"]}, "concepts: got '../dog'"),
        ({"concepts": ["do\0g"]}, r"concepts: got 'do\\x00g'"),
        ({"concepts": ["dog\ncat"]}, r"concepts: got 'dog\\ncat'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(flags, says):
    with pytest.raises(ConfigError, match=says):
        CodebookLanguageConfig.parse(flags)
