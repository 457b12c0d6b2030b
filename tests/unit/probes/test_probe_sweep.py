"""A sweep on a small model: one forward pass a batch, every site, figures that can be checked, a report to save."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from interp.errors import ArtifactError, ConfigError, DataError, UnknownHookError
from interp.hooks import capture
from probes import probe_results as results
from probes.layer_sweep import expand_hooks
from probes.probe_activations import encode_places, encode_text, harvest_places
from probes.probe_config import ProbeConfig
from probes.probe_labels import LabelledText, Place
from probes.probe_report import probe_report
from probes.probe_results import ProbeReport
from tests.families import tiny_model
from tests.specimens import random_sae

HOOK = "blocks.1.hook_resid_post"


def invented(n=120, *, seed=0):
    """Words are labelled by the parity of their number, and by whether the word before is larger."""
    draw, texts = random.Random(seed), []
    for document in range(n):
        numbers = [draw.randrange(4, 40) for _ in range(8)]
        text, places, at = " ".join(f"w{n}" for n in numbers), [], 0
        for index, number in enumerate(numbers):
            labels = {"parity": "even" if number % 2 == 0 else "odd"}
            if index:
                labels["order"] = "down" if numbers[index - 1] > number else "up"
            places.append(Place(at, at + len(f"w{number}"), f"w{number}", labels))
            at += len(f"w{number}") + 1
        texts.append(LabelledText(text, f"document {document}", tuple(places)))
    return texts


@pytest.fixture(scope="module")
def model():
    """Its embedding tells parity, and nothing else in common."""
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.hf.transformer.wte.weight[::2, 0] += 4
        model.hf.transformer.wte.weight[1::2, 0] -= 4
    return model


@pytest.fixture(scope="module")
def report(model):
    told = {"hooks": ["blocks.0.hook_resid_pre", HOOK], "ks": [1, 3], "shown_texts": 2, "cs": [1e-3, 1e-1]}
    config = ProbeConfig.parse({**told, "labels": {"examples": 300}})
    sae = random_sae("topk", hook=HOOK)
    return probe_report(model, invented(), config, dictionaries={"an SAE": sae})


def test_all_hooks_come_of_one_pass_over_each_text(model):
    texts, calls = invented(30), []
    handle = model.hf.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    hooks = expand_hooks(model, ["blocks.0.hook_resid_pre", "hook_resid_post", "attn.hook_z"])
    try:
        data = harvest_places(model, texts, hooks, held_out_share=0.3)
    finally:
        handle.remove()
    assert len(calls) == 1
    assert list(data.acts) == list(hooks)
    assert len(hooks) == 1 + 2 * model.n_layers
    # A place's activations are those of its token in its own text alone.
    row = encode_text(model, texts[4].text)
    alone = capture(model, torch.tensor([row.token_ids]), [HOOK])[HOOK][0]
    np.testing.assert_allclose(data.acts[HOOK][data.text == 4], alone[1:], atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_padding_beside_longer_texts_changes_nothing(kind):
    model, short, long = tiny_model(kind), invented(3), invented(1, seed=9)
    long = [LabelledText(f"{long[0].text} {long[0].text}", "long", long[0].places)]
    hooks = ["blocks.2.hook_resid_post"]
    alone = harvest_places(model, short, hooks, held_out_share=0.3).acts[hooks[0]]
    beside = harvest_places(model, short + long, hooks, held_out_share=0.3)
    np.testing.assert_allclose(beside.acts[hooks[0]][beside.text < 3], alone, atol=1e-5)


def test_texts_that_do_not_fit_are_counted_and_none_left_is_an_error(model):
    long = LabelledText(" ".join(["w5"] * 40), "long", (Place(0, 2, "w5", {"parity": "odd"}),))
    data = harvest_places(model, [*invented(4), long], [HOOK], held_out_share=0.3)
    assert data.n_texts_too_long == 1
    assert set(data.text) == {0, 1, 2, 3}
    with pytest.raises(DataError, match="fits its context"):
        harvest_places(model, [long], [HOOK], held_out_share=0.3)


def test_a_dictionarys_features_are_its_code(model):
    data = harvest_places(model, invented(6), [HOOK], held_out_share=0.3)
    sae = random_sae("topk", hook=HOOK)
    inputs = encode_places(sae, data)
    np.testing.assert_allclose(inputs.matrix.toarray(), sae.encode(data.acts[HOOK]).dense().detach(), atol=1e-6)


def test_every_probe_of_every_site_has_an_interval_that_holds_it(report, model):
    sites = [site.name for site in report.sites]
    assert sites == ["blocks.0.hook_resid_pre", HOOK, "an SAE"]
    assert [site.layer for site in report.sites] == [0, 1, 1]
    for attribute in ("parity", "order"):
        for split in ("document", "word"):
            assert [row.site for row in report.find(attribute, split, results.LOGISTIC)] == sites
            assert [row.site for row in report.find(attribute, split, results.NONLINEAR)] == sites
            assert len(report.find(attribute, split, results.MAJORITY)) == 1
            assert len(report.find(attribute, split, results.BAG_OF_TOKENS)) == 1
            assert {row.n_inputs for row in report.find(attribute, split, results.K_SPARSE)} == {1, 3}
        assert [row.site for row in report.find(attribute, "document", results.SELECTIVITY)] == sites
        assert report.find(attribute, "word", results.SELECTIVITY) == []
    for row in report.rows:
        low, high = row.score.interval
        assert low <= row.score.value <= high


def test_selectivity_is_the_difference_of_its_two_accuracies(report):
    for row in report.find("parity", "document", results.SELECTIVITY):
        task, control = (
            report.find("parity", "document", probe, site=row.site)[0].score.value
            for probe in (results.LOGISTIC, results.CONTROL)
        )
        assert row.score.value == pytest.approx(task - control)


def test_what_is_planted_is_found_on_new_words_too_where_tokens_tell_nothing(report):
    at = "blocks.0.hook_resid_pre"
    for split in ("document", "word"):
        assert report.find("parity", split, results.LOGISTIC, site=at)[0].score.value > 0.95
    assert report.find("parity", "document", results.SELECTIVITY, site=at)[0].score.interval[0] > 0
    assert report.find("parity", "document", results.BAG_OF_TOKENS)[0].score.value == 1.0
    majority, tokens = (report.find("parity", "word", probe)[0] for probe in (results.MAJORITY, results.BAG_OF_TOKENS))
    assert tokens.score.value == pytest.approx(majority.score.value) or tokens.score.value < 0.6
    lengths = {row.of: row.length for row in report.descriptions if (row.attribute, row.site) == ("parity", at)}
    assert lengths[results.LABELS].compression.interval[0] > lengths[results.CONTROL].compression.interval[1]


def test_confusions_count_the_held_out_examples_and_their_diagonal_is_the_accuracy(report):
    for one in report.confusions:
        counts = np.array(one.counts)
        assert counts.sum() == report.splits[one.attribute][one.split]["n_test"]
        accuracy = report.find(one.attribute, one.split, results.LOGISTIC, site=one.site)[0].score.value
        assert np.trace(counts) / counts.sum() == pytest.approx(accuracy)


def test_directions_of_two_classes_are_one_and_cosines_are_symmetric(report):
    (directions,) = report.directions
    assert directions.names == ("parity: odd", "order: up")
    cosines = np.array(directions.cosines)
    np.testing.assert_allclose(np.diag(cosines), 1)
    np.testing.assert_array_equal(cosines, cosines.T)


def test_erasure_leaves_a_linear_probe_the_commonest_class_where_it_promises_that(report):
    by_method = {(row.attribute, row.method): row for row in report.erasures}
    for attribute in ("parity", "order"):
        nothing, leace = by_method[attribute, "nothing"], by_method[attribute, "LEACE"]
        assert nothing.mean_square_change == 0
        assert nothing.n_removed == 0
        assert leace.n_removed == 1
        assert leace.cross_covariance < 1e-9 < nothing.cross_covariance
        assert leace.mean_square_change <= by_method[attribute, "mean projection"].mean_square_change
        assert leace.fitted.value < 0.6
    assert by_method["parity", "nothing"].held_out.value > 0.9


def test_texts_are_held_out_whole_and_their_probabilities_sum_to_one(report):
    assert len(report.texts) == 2 * 2
    for text in report.texts:
        assert "".join(text.tokens) in {one.text for one in invented() if one.document == text.document}
        assert len(text.labels) == len(text.tokens) == len(text.probabilities)
        np.testing.assert_allclose(np.sum(text.probabilities, axis=1), 1, atol=1e-3)
    parity = next(text for text in report.texts if text.attribute == "parity")
    assert set(parity.labels) == {"even", "odd"}


def test_a_report_comes_back_from_disk_and_prints_as_a_table(report, tmp_path):
    report.save(tmp_path / "probe.json")
    again = ProbeReport.load(tmp_path / "probe.json")
    assert again.to_json() == report.to_json()
    assert [dataclasses.astuple(row) for row in again.rows] == [dataclasses.astuple(row) for row in report.rows]
    assert again.descriptions == report.descriptions
    table = report._repr_html_()
    assert table.count("<tr>") == 1 + 2 * 2 * (len(report.sites) + 1)
    (tmp_path / "old.json").write_text('{"schema_version": 0}')
    with pytest.raises(ArtifactError, match="schema version"):
        ProbeReport.load(tmp_path / "old.json")


def test_what_cannot_be_probed_is_told(model):
    config = ProbeConfig.parse({"labels": {"examples": 100}})
    with pytest.raises(UnknownHookError, match="hook_resid_past"):
        expand_hooks(model, ["hook_resid_past"])
    with pytest.raises(DataError, match="two classes"):
        probe_report(model, invented(3), config)
    for bad, says in (
        ({"cs": [1, 0.1]}, "that grow"),
        ({"splits": []}, "splits"),
        ({"labels": {"source": "conllu"}}, "path"),
        ({"labels": {"pattern": "she"}}, "labels.pattern: labels from first_letter do not use it"),
        ({"labels": {"source": "records", "path": "a.csv", "roles": ["user"]}}, "labels.roles"),
    ):
        with pytest.raises(ConfigError, match=says):
            ProbeConfig.parse(bad)
