"""What a study keeps of an arm: read again, and only if it is of that arm, that text and as many tokens."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from interp.codebooks.config import CodebookConfig
from interp.codebooks.detection import neuron_detections
from interp.codebooks.files import load_codebook_model
from interp.codebooks.inspected import inspect_run
from interp.codebooks.neurons import neuron_activations
from interp.codebooks.record import CodeRecord, record_codes
from interp.codebooks.training import train_codebooks
from interp.datasets import open_stream
from interp.errors import ArtifactError
from interp.storage import write_text
from interp.studies.codebook_language_inspection import inspection_path, looked_at
from interp.studies.codebook_language_steering import Scene
from tests.codebook_runs import run_settings, write_inputs

TEXTS = [f" w{index}" for index in range(40)]
N = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    write_inputs(folder)
    for name, more in (("codes", {}), ("plain", {"at": []}), ("short", {"at": [], "tokens": 120})):
        train_codebooks(CodebookConfig.parse(run_settings(folder, name, **more)))
    return folder


@pytest.fixture(scope="module")
def arms(folder):
    return [load_codebook_model(folder / name, device="cpu") for name in ("codes", "plain")]


@pytest.fixture(scope="module")
def stream(arms):
    config = arms[0].config
    return open_stream(config.dataset, arms[0].model, config.data, split="heldout")


@pytest.fixture(scope="module")
def kept(arms, stream, tmp_path_factory):
    kept = tmp_path_factory.mktemp("kept") / "codes"
    return kept, *looked_at(kept, *arms, stream, TEXTS, n_tokens=N, seed=0)


def test_neurons_are_those_of_the_plain_finetune(arms, stream, kept):
    _, result, record = kept
    assert result.code_detection
    acts = neuron_activations(arms[1].model, stream.iter_pass(), n_tokens=len(record))
    expected = neuron_detections(record, acts, [one.share for one in result.code_detection], seed=0)
    assert [(one.unit, one.share) for one in result.neuron_detection] == [(one.unit, one.share) for one in expected]
    np.testing.assert_array_equal([one.auc for one in result.neuron_detection], [one.auc for one in expected])


def test_what_was_looked_at_is_read_again(arms, stream, kept, monkeypatch):
    folder, result, record = kept
    monkeypatch.setattr("interp.studies.codebook_language_inspection.inspect_run", None)
    again, same = looked_at(folder, *arms, stream, TEXTS, n_tokens=N, seed=0)
    assert json.dumps(again.to_json()) == json.dumps(result.to_json())
    np.testing.assert_array_equal(same.token_ids, record.token_ids)


def test_text_that_ends_before_is_read_again_too(arms, stream, tmp_path):
    asked = (tmp_path / "codes", *arms, stream, TEXTS)
    _, record = looked_at(*asked, n_tokens=10**6, seed=0)
    assert N < len(record) < 10**6
    assert len(looked_at(*asked, n_tokens=10**6, seed=0)[1]) == len(record)


def _changed(record, **values):
    return replace(record, source={**record.source, **values})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: _changed(record, model="0" * 64), "other weights"),
        (lambda record: _changed(record, dataset="more.jsonl"), "more.jsonl (heldout)"),
        (lambda record: _changed(record, split="all"), "(all)"),
        (lambda record: replace(record, token_ids=record.token_ids[::-1].copy()), "another text under the same name"),
    ],
)
def test_a_record_of_something_else_is_refused(arms, stream, kept, tmp_path, change, says):
    shutil.copytree(kept[0], tmp_path / "codes")
    path = tmp_path / "codes" / "record.safetensors"
    change(CodeRecord.load(path)).save(path)
    with pytest.raises(ArtifactError, match=f"{re.escape(says)}; remove it"):
        looked_at(tmp_path / "codes", *arms, stream, TEXTS, n_tokens=N, seed=0)


def test_another_length_or_other_neurons_are_refused(folder, arms, stream, kept, tmp_path):
    with pytest.raises(ArtifactError, match="90 tokens, not 91; remove it"):
        looked_at(kept[0], *arms, stream, TEXTS, n_tokens=N + 1, seed=0)
    short = load_codebook_model(folder / "short", device="cpu")
    with pytest.raises(ArtifactError, match="other weights"):
        looked_at(kept[0], arms[0], short, stream, TEXTS, n_tokens=N, seed=0)
    # An inspection of fewer tokens beside the record.
    shutil.copytree(kept[0], tmp_path / "codes")
    other, _ = inspect_run(arms[0], TEXTS, n_tokens=80, provenance=dict(kept[1].provenance))
    other.save(inspection_path(tmp_path / "codes"))
    with pytest.raises(ArtifactError, match="80 tokens, not 90; remove it"):
        looked_at(tmp_path / "codes", *arms, stream, TEXTS, n_tokens=N, seed=0)


def test_a_steering_is_named_by_all_that_decides_it(arms, stream, kept):
    codes, plain = arms
    record = kept[2]
    scene = Scene(codes, "attn, k=8", record, stream, TEXTS, "Once", 4, 5, 3, 1)
    changes = {
        "held": plain, "arm": "attn, k=1", "record": record_codes(codes.model, codes.codebooks, stream.iter_pass(),
        n_tokens=50), "prompt": "Twice", "n_texts": 5, "new_tokens": 6, "n_controls": 4, "seed": 2,
    }  # fmt: skip
    names = [scene.file_name("dog"), scene.file_name("Dog")]
    names += [replace(scene, **{name: value}).file_name("dog") for name, value in changes.items()]
    # Records of as many tokens: of another text, or with other codes at the same one.
    others = [replace(record, token_ids=record.token_ids[::-1].copy()), replace(record, books=_reversed(record.books))]
    names += [replace(scene, record=other).file_name("dog") for other in others]
    assert len(set(names)) == 2 + len(changes) + len(others)
    assert replace(scene, texts=list(TEXTS)).file_name("dog") == names[0]
    read = CodeRecord.load(kept[0] / "record.safetensors")
    assert replace(scene, record=read).file_name("dog") == names[0]


def test_words_that_begin_alike_and_do_not_fit_a_name_have_files_of_their_own(arms, stream, kept, tmp_path):
    scene = Scene(arms[0], "attn, k=8", kept[2], stream, TEXTS, "Once", 4, 5, 3, 1)
    # Four bytes a letter: no letter has more.
    words = ["𒀀" * 300 + end for end in ("", "a")]
    names = [scene.file_name(word) for word in words]
    for name, word in zip(names, words, strict=True):
        write_text(tmp_path / name, word)
    assert len(list(tmp_path.iterdir())) == 2


def _reversed(books):
    """The same codebooks, with the first one's codes of the last token at the first."""
    first, *others = books
    return (replace(first, ids=first.ids[::-1].copy()), *others)
