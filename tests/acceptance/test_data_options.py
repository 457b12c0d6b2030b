"""What a run says of its text: duplicates left out, overlap of evaluation with training, whose words it learnt from."""

import json

import pytest

from interp.cli import main
from tests.families import save_model, tiny_model
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
    save_model(model, tmp_path / "model")
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


def test_other_text_does_not_replace_the_figures_of_the_runs_own(model, tmp_path, capsys):
    run = tmp_path / "run"
    train(model, write_jsonl(tmp_path / "t.jsonl", tiny_texts(60, longest=40)), run)
    other = write_jsonl(tmp_path / "other text.jsonl", tiny_texts(60, longest=40, seed=1))
    elsewhere = ["evaluate", str(run), "--dataset", str(other), "--split", "all", "--tokens", "600"]
    assert main(elsewhere) == 0
    # Where nothing else was measured, it is what there is.
    assert read(run, "evaluation.json")["data"]["dataset"] == str(other)
    assert main(["evaluate", str(run), "--tokens", "300"]) == 0
    own = read(run, "evaluation.json")
    assert own["data"]["split"]["used"] == "heldout"
    capsys.readouterr()
    assert main(elsewhere) == 0
    assert main(["evaluate", str(run), "--split", "train", "--tokens", "300"]) == 0
    assert "keeps the figures of the run's own held-out text" in capsys.readouterr().err
    assert read(run, "evaluation.json") == own
    found = {path.name.rsplit("_", 1)[0]: read(run, path.name)["data"] for path in run.glob("evaluation_*.json")}
    assert found.keys() == {"evaluation_other-text-jsonl_all", "evaluation_t-jsonl_train"}
    assert found["evaluation_other-text-jsonl_all"]["dataset"] == str(other)
    assert found["evaluation_t-jsonl_train"]["split"]["used"] == "train"


def test_a_damaged_evaluation_does_not_cost_the_new_one(model, tmp_path):
    run = tmp_path / "run"
    train(model, write_jsonl(tmp_path / "t.jsonl", tiny_texts(60, longest=40)), run)
    (run / "evaluation.json").write_text("{}")
    assert main(["evaluate", str(run), "--tokens", "300"]) == 0
    assert read(run, "evaluation.json")["data"]["split"]["used"] == "heldout"


def read(run, name):
    return json.loads((run / name).read_text())


def test_a_training_text_that_is_gone_costs_the_overlap_alone(model, tmp_path, capsys):
    dataset = write_jsonl(tmp_path / "t.jsonl", tiny_texts(60))
    train(model, dataset, tmp_path / "run")
    other = write_jsonl(tmp_path / "other.jsonl", tiny_texts(60, seed=1))
    dataset.unlink()
    arguments = ["evaluate", str(tmp_path / "run"), "--dataset", str(other), "--split", "all", "--tokens", "300"]
    assert main(arguments) == 0
    assert "not measured: " in capsys.readouterr().out
    found = read(tmp_path / "run", "evaluation.json")["data"]["overlap_with_training"]
    assert str(dataset) in found["not_measured"]


def test_the_report_evaluates_as_the_command_does_and_imported_saes_have_no_training_text(model, tmp_path):
    run = tmp_path / "run"
    train(model, write_jsonl(tmp_path / "t.jsonl", tiny_texts(60, longest=40)), run)
    assert main(["report", str(run), "--tokens", "300"]) == 0
    assert "n_ngrams" in read(run, "evaluation.json")["data"]["overlap_with_training"]
    manifest = read(run, "manifest.json")
    (run / "manifest.json").write_text(json.dumps(manifest | {"results": {"imported_from": "somewhere"}}))
    assert main(["evaluate", str(run), "--tokens", "300"]) == 0
    assert "overlap_with_training" not in read(run, "evaluation.json")["data"]


@pytest.mark.parametrize("command", ["train", "collect"])
def test_a_folder_in_use_is_told_before_anything_is_read(model, tmp_path, monkeypatch, capsys, command):
    dataset, out = write_jsonl(tmp_path / "t.jsonl", tiny_texts(60)), tmp_path / "run"
    train(model, dataset, out)
    for module in ("saes.origin", "interp.activations.collect"):
        monkeypatch.setattr(f"{module}.load_model", None)
    settings = SMALL if command == "train" else ["--hooks", "blocks.1.hook_resid_post", "--tokens", "320"]
    capsys.readouterr()
    assert main([command, "--model", model, "--dataset", str(dataset), *settings, "--out", str(out)]) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (("--data.deduplicate", "exact"), "got deduplicate exact"),
        (("--data.text-field", "body"), "got text_field body"),
    ],
)
def test_activations_on_disk_are_of_the_same_documents(model, tmp_path, capsys, setting, told):
    dataset, acts = write_jsonl(tmp_path / "t.jsonl", tiny_texts(60)), tmp_path / "acts"
    same = ["--model", model, "--dataset", str(dataset), "--data.context-size", "16", "--data.heldout-share", "0.3"]
    assert main(["collect", *same, "--hooks", "blocks.1.hook_resid_post", "--tokens", "400", "--out", str(acts)]) == 0
    arguments = ["train", *same, *SMALL, "--activations", str(acts), *setting, "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


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
