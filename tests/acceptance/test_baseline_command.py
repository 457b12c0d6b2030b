"""`interp baseline`: a run folder that the commands for trained SAEs take, and that says what it is."""

import json

import pytest

import saes
from interp.cli import main
from interp.runs import RunFolder
from interp.storage import read_json
from saes.baselines import KINDS
from saes.train_config import TrainConfig
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

SMALL = [
    "--hook", "blocks.1.hook_resid_post", "--d-sae", "20", "--k", "3", "--batch-size", "64", "--tokens", "1280",
    "--shuffle.block-tokens", "320", "--data.context-size", "16", "--data.batch-tokens", "64",
]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(400))
    return ["--model", str(folder / "model"), "--dataset", str(folder / "texts.jsonl"), *SMALL]


@pytest.mark.parametrize("kind", KINDS)
def test_a_baseline_is_looked_at_as_a_trained_sae_is(kind, inputs, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["baseline", kind, *inputs, "--out", str(out), "--sample", "700", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["baseline"], told["tokens"]) == (kind, 700)
    run = RunFolder.open(out)
    assert run.config(TrainConfig).tokens == 700
    assert saes.load_sae(run.sae).d_sae == told["d_sae"]
    assert read_json(run.sae / "interp.json")["baseline"] == kind
    assert main(["evaluate", str(out), "--tokens", "500"]) == 0
    assert told["architecture"] in capsys.readouterr().out
    values = json.loads(run.evaluation_path.read_text())
    assert values["l0"] == pytest.approx(1.0 if kind == "kmeans" else 3.0, abs=1e-9)
    assert main(["features", str(out), "--tokens", "500"]) == 0
    assert main(["report", str(out)]) == 0
    assert told["architecture"] in run.report_path.read_text(encoding="utf-8")


def test_the_same_seed_fits_the_same(inputs, tmp_path):
    for name in ("a", "b"):
        assert main(["baseline", "random", *inputs, "--out", str(tmp_path / name)]) == 0
    files = [(tmp_path / name / "sae" / "sae_weights.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_what_cannot_be_fitted_is_told_in_one_line_and_leaves_no_run(inputs, tmp_path, capsys):
    out = str(tmp_path / "run")
    wrong = {
        "at most d_sae": ["pca", *inputs, "--k", "21", "--out", out],
        "give more tokens": ["pca", *inputs, "--sample", "20", "--out", out],
        "a baseline has one": ["pca", *inputs, "--out", out, "--more-hooks", "blocks.0.hook_resid_post"],
    }
    for message, arguments in wrong.items():
        assert main(["baseline", *arguments]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert message in told
        assert told.startswith("interp: ")
    assert not (tmp_path / "run" / "manifest.json").exists()
