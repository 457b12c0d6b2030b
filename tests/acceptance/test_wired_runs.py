"""Transcoder and crosscoder runs go through every command that looks at a run."""

import json

import pytest

from interp.cli import main
from saes.features import FeatureStore
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

SMALL = [
    "--d-sae", "32", "--k", "4", "--batch-size", "64", "--tokens", "1280", "--shuffle.block-tokens", "320",
    "--data.context-size", "16", "--data.batch-tokens", "64",
]  # fmt: skip
READ, WRITTEN, DEEPER = "blocks.0.ln2.hook_out", "blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"
WIRINGS = {
    "transcoder": ["--hook", READ, "--hook-out", WRITTEN, "--architecture", "topk", "--sae.skip", "true"],
    "crosscoder": ["--hook", WRITTEN, "--more-hooks", DEEPER, "--architecture", "batch_topk"],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wired")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(400))
    (folder / "new.txt").write_text("\n".join(tiny_texts(20, seed=3)))
    return folder


@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_command_takes_the_run(wiring, inputs, tmp_path, capsys):
    run, given = tmp_path / "run", ["--model", str(inputs / "model"), "--dataset", str(inputs / "texts.jsonl"), *SMALL]
    assert main(["train", *given, *WIRINGS[wiring], "--out", str(run)]) == 0
    assert main(["evaluate", str(run), "--tokens", "500"]) == 0
    told = capsys.readouterr().out
    values = json.loads((run / "evaluation.json").read_text())
    assert wiring in values["architecture"]
    assert main(["features", str(run), "--tokens", "500", "--export", "parquet"]) == 0
    share = FeatureStore.open(run / "features").statistics.hook_share
    if wiring == "transcoder":
        assert f"{READ} -> {WRITTEN}" in told
        assert (values["hooks_in"], values["hooks_out"], values["hooks"]) == ([READ], [WRITTEN], [])
        assert share is None
    else:
        assert [score["hook"] for score in values["hooks"]] == [WRITTEN, DEEPER]
        assert all(score["hook"] in told for score in values["hooks"])
        assert share.shape == (32, 2)
    for source in (run, run / "sae"):
        out = str(tmp_path / "codes.parquet")
        assert main(["encode", str(source), "--texts", str(inputs / "new.txt"), "--out", out, "--overwrite"]) == 0
    assert main(["report", str(run)]) == 0
    shown = {"transcoder": (f"{READ} to {WRITTEN}", "TopK"), "crosscoder": (f"{WRITTEN}, {DEEPER}", "BatchTopK")}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert shown[wiring][0] in page
    assert f"{shown[wiring][1]} {wiring}" in page
