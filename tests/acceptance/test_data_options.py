"""What a run says of its text: duplicates left out, overlap of evaluation with training, whose words it learnt from."""

import json

import pytest

from interp.cli import main
from tests.families import tiny_model
from tests.texts import tiny_texts, write_jsonl

SMALL = [
    "--hook", "blocks.1.hook_resid_post", "--sae.d-sae", "32", "--k", "4", "--batch-size", "64", "--tokens", "320",
    "--shuffle.block-tokens", "320", "--data.context-size", "16", "--data.heldout-share", "0.3",
]  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"


@pytest.fixture
def model(tmp_path):
    model = tiny_model("llama")
    model.tokenizer.chat_template = TEMPLATE
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def train(model, dataset, out, *more):
    assert main(["train", "--model", model, "--dataset", str(dataset), *SMALL, *more, "--out", str(out)]) == 0
    return json.loads((out / "manifest.json").read_text())["data"]


def test_the_manifest_states_overlap_and_deduplication(model, tmp_path):
    # Held-out copies of training text with another last word: no two are equal, all overlap.
    texts = [f"{text} w{4 + i % 36}" for text in tiny_texts(40, longest=40) for i in range(5) if len(text) > 60]
    dataset = write_jsonl(tmp_path / "t.jsonl", texts)
    data = train(model, dataset, tmp_path / "run")
    found = data["overlap_with_training"]
    assert (found["n"], found["document_share"]) == (13, 1.0)
    assert found["n_documents"] + found["n_training_documents"] == len(texts)
    data = train(model, dataset, tmp_path / "once", "--data.deduplicate", "near")
    assert data["deduplicate"]["by"] == "near"
    assert data["overlap_with_training"]["document_share"] < 0.2
    assert "overlap_with_training" not in train(model, dataset, tmp_path / "un", "--data.overlap-documents", "0")


def test_the_evaluation_states_the_overlap_of_other_text(model, tmp_path, capsys):
    texts = tiny_texts(60, longest=40)
    train(model, write_jsonl(tmp_path / "t.jsonl", texts), tmp_path / "run")
    other = write_jsonl(tmp_path / "other.jsonl", [*texts, *tiny_texts(60, longest=40, seed=1)])
    arguments = ["evaluate", str(tmp_path / "run"), "--dataset", str(other), "--split", "all", "--tokens", "600"]
    capsys.readouterr()
    assert main(arguments) == 0
    assert "also in training text" in capsys.readouterr().out
    data = json.loads((tmp_path / "run" / "evaluation.json").read_text())["data"]
    # Of 120 documents, those of at least 13 words that the run was trained on.
    assert 0.1 < data["overlap_with_training"]["document_share"] < 0.5


def test_an_sae_of_the_assistant_s_words_alone(model, tmp_path, capsys):
    talks = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "w4 w5 w6"}] for text in tiny_texts(200)
    ]
    dataset = tmp_path / "talks.jsonl"
    dataset.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    more = ["--data.text-field", "messages", "--data.context-size", "24", "--data.mask.roles", "assistant"]
    data = train(model, dataset, tmp_path / "run", *more)
    assert data["mask_policy"]["roles"] == ["assistant"]
    assert main(["evaluate", str(tmp_path / "run"), "--tokens", "60"]) == 0
    # The same masks hold wherever the run is looked at.
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["mask_policy"] == data["mask_policy"]
    capsys.readouterr()
    assert main(["train", "--model", model, "--dataset", str(dataset), *SMALL, "--out", str(tmp_path / "no")]) == 2
    assert "no field 'text' (got messages)" in capsys.readouterr().err
