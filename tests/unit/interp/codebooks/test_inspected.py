"""Looking at a run: whose neurons, on which text, and what a file of it holds."""

import json
import math

import numpy as np
import pytest
import torch

from interp.codebooks.config import CodebookConfig
from interp.codebooks.detection import neuron_detections
from interp.codebooks.files import load_codebook_model
from interp.codebooks.inspected import Inspection, detected_rows, inspect_run, told
from interp.codebooks.neurons import iter_neurons, neuron_activations
from interp.codebooks.precision import Detected, Detector, mean_precision
from interp.codebooks.rivals import rivals_of
from interp.codebooks.training import train_codebooks
from interp.datasets import open_stream
from interp.errors import ArtifactError, ConfigError
from interp.models import load_model
from tests.codebook_runs import run_settings, write_inputs
from tests.families import tiny_model

TEXTS = [f" w{index}" for index in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspected")
    write_inputs(folder)
    for name, more in (("codes", {"at": ["attn", "mlp"]}), ("plain", {"at": []})):
        train_codebooks(CodebookConfig.parse(run_settings(folder, name, **more)))
    return folder


@pytest.fixture(scope="module")
def held(folder):
    return load_codebook_model(folder / "codes", device="cpu")


@pytest.fixture(scope="module")
def stream(held):
    return open_stream(held.config.dataset, held.model, held.config.data, split="all")


def test_neurons_hook_by_hook_are_those_of_one_pass(held, stream):
    whole = neuron_activations(held.model, stream.iter_pass(), n_tokens=200)
    passes = []

    def again():
        passes.append(1)
        return stream.iter_pass()

    width = whole["blocks.0.mlp.hook_post"].shape[1]
    # As much as two of three layers take.
    for budget, expected in ((1, 3), (2 * 4 * 200 * width, 2), (2**30, 1)):
        passes.clear()
        found = dict(iter_neurons(held.model, again, n_tokens=200, budget=budget))
        assert len(passes) == expected
        assert list(found) == list(whole)
        for hook, acts in found.items():
            np.testing.assert_array_equal(acts, whole[hook])
    some = neuron_activations(held.model, stream.iter_pass(), n_tokens=200, only={"blocks.1.mlp.hook_post": [5, 2]})
    np.testing.assert_array_equal(some["blocks.1.mlp.hook_post"], whole["blocks.1.mlp.hook_post"][:, [5, 2]])


def test_drawn_neurons_are_the_same_whether_all_are_held_or_only_theirs(held, stream):
    _, record = inspect_run(held, TEXTS, n_tokens=300, dataset=held.config.dataset)
    record = type(record)(
        *(getattr(record, name) for name in ("token_ids", "next_ids", "document", "position", "row")), record.books
    )
    heldout = open_stream(held.config.dataset, held.model, held.config.data, split="heldout")
    acts = neuron_activations(held.model, heldout.iter_pass(), n_tokens=len(record))
    shares = [0.1, 0.2, 0.3, 0.4]
    expected = neuron_detections(record, acts, shares, seed=3)
    found = rivals_of(held.model, heldout, record, shares, 3)
    assert [(one.unit, one.share) for one in found] == [(one.unit, one.share) for one in expected]
    np.testing.assert_array_equal([one.auc for one in found], [one.auc for one in expected])


def test_rivals_are_neurons_of_a_model_that_was_trained_as_it_stands(folder, held):
    patterns = ["w7"]
    by_base, _ = inspect_run(held, TEXTS, n_tokens=400, patterns=patterns)
    assert by_base.neurons_of == f"the base model, {folder / 'base'}"
    plain = load_codebook_model(folder / "plain", device="cpu")
    by_plain, record = inspect_run(held, TEXTS, n_tokens=400, patterns=patterns, neurons=plain)
    assert by_plain.neurons_of == "the finetune without codebooks, plain"
    heldout = open_stream(held.config.dataset, held.model, held.config.data, split="heldout")
    shares = [one.share for one in by_base.code_detection]
    assert shares
    for result, model in ((by_base, load_model(str(folder / "base"), device="cpu")), (by_plain, plain.model)):
        acts = neuron_activations(model, heldout.iter_pass(), n_tokens=len(record))
        expected = neuron_detections(record, acts, shares, seed=0)
        assert [one.share for one in result.neuron_detection] == [one.share for one in expected]
        np.testing.assert_array_equal([one.auc for one in result.neuron_detection], [one.auc for one in expected])


def test_neurons_of_codebooks_or_of_another_base_are_refused(folder, held, tmp_path):
    with pytest.raises(ConfigError, match="has codebooks"):
        inspect_run(held, TEXTS, n_tokens=50, neurons=held)
    write_inputs(tmp_path, "llama")
    other = CodebookConfig.parse(run_settings(tmp_path, "other", at=[], tokens=120))
    train_codebooks(other)
    with pytest.raises(ConfigError, match="another base model"):
        inspect_run(held, TEXTS, n_tokens=50, neurons=load_codebook_model(tmp_path / "other", device="cpu"))


def test_a_base_model_that_has_changed_since_is_refused(tmp_path):
    write_inputs(tmp_path)
    train_codebooks(CodebookConfig.parse(run_settings(tmp_path, "codes", tokens=120)))
    tiny_model("gpt2", seed=9).hf.save_pretrained(tmp_path / "base")
    with pytest.raises(ArtifactError, match="has changed since"):
        inspect_run(load_codebook_model(tmp_path / "codes", device="cpu"), TEXTS, n_tokens=50)


def test_what_was_looked_at_is_told(folder, held, tmp_path):
    own, record = inspect_run(held, TEXTS, n_tokens=50)
    assert own.text == f"held-out text of {held.config.dataset}"
    assert record.source == {
        "model": held.model.content_hash, "dataset": held.config.dataset, "split": "heldout",
    }  # fmt: skip
    # Another text: that of training with a document more.
    (tmp_path / "more.jsonl").write_text((folder / "text.jsonl").read_text() + '{"text": "w3 w9"}\n')
    other, record = inspect_run(held, TEXTS, n_tokens=50, dataset=str(tmp_path / "more.jsonl"))
    assert other.text == f"text of {tmp_path / 'more.jsonl'}, another than that of training"
    assert (record.source["dataset"], record.source["split"]) == (str(tmp_path / "more.jsonl"), "all")
    assert "which training read too" in Inspection("r", "m", 1, (), (), {}, (), (), (), (), split="all").text


def test_the_text_of_training_is_known_under_another_name(folder, held, tmp_path, monkeypatch):
    _, record = inspect_run(held, TEXTS, n_tokens=300)
    (tmp_path / "copy.jsonl").write_bytes((folder / "text.jsonl").read_bytes())
    monkeypatch.chdir(folder)
    for name in ("./text.jsonl", str(tmp_path / "copy.jsonl")):
        again, same = inspect_run(held, TEXTS, n_tokens=300, dataset=name)
        assert (again.split, same.source["split"]) == ("heldout", "heldout")
        assert again.text == f"held-out text of {name}"
        np.testing.assert_array_equal(same.token_ids, record.token_ids)


def test_the_text_of_training_is_known_though_documents_were_added(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    train_codebooks(CodebookConfig.parse(run_settings(tmp_path, "codes", tokens=120)))
    with (tmp_path / "text.jsonl").open("a") as file:
        file.write('{"text": "w3 w9"}\n')
    monkeypatch.chdir(tmp_path)
    found, _ = inspect_run(load_codebook_model(tmp_path / "codes", device="cpu"), TEXTS, n_tokens=50,
                           dataset="text.jsonl")  # fmt: skip
    assert found.split == "heldout"


def test_an_inspection_is_read_as_it_was_written(held, tmp_path):
    result, _ = inspect_run(held, TEXTS, n_tokens=300, patterns=["w7"])
    path = tmp_path / "inspection.json"
    result.save(path)
    assert Inspection.load(path).to_json() == result.to_json()
    whole = json.loads(path.read_text())
    for change, says in (
        ({"schema_version": 9}, "another version"),
        ({"books": 3}, "damaged"),
        ({"vocabulary": []}, "damaged"),
    ):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(ArtifactError, match=says):
            Inspection.load(path)


def test_precision_without_anything_to_find_is_not_measured():
    nothing = Detector("0.attn.0.1", None, None, 0)
    some = Detected("dog", Detector("0.attn.0.1", 0.5, 0.5, 4), Detector("m 1", 0.25, 0.5, 4))
    assert mean_precision([Detected(" rare", nothing, nothing), some]) == (0.5, 0.25, 1)
    result = Inspection("r", "m", 1, (), (), {}, (), (Detected(" rare", nothing, None), some), (), ())
    first, second = detected_rows(result)
    # A space at the beginning of a pattern can be seen.
    assert first == ("␣rare", "0.attn.0.1", "not measured", "not measured", "–", "–", "0")
    assert second[2:4] == ("0.500", "0.500")
    assert told(math.nan) == "not measured"


def test_a_wrong_pattern_is_told_before_the_pass(held, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_, **__: pytest.fail("the model was run"))
    with pytest.raises(ConfigError, match="regular expression"):
        inspect_run(held, TEXTS, patterns=["fine", "("])
