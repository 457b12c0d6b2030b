"""Every architecture and wiring by command: trained, evaluated, interrupted and gone on with, refused."""

import json

import pytest
import torch

from interp.cli import main
from interp.storage import read_tensors
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

READ, WRITTEN, DEEPER = "blocks.0.ln2.hook_out", "blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"
SMALL = [
    "--d-sae", "32", "--k", "4", "--batch-size", "64", "--tokens", "1280", "--shuffle.block-tokens", "320",
    "--data.context-size", "16", "--recording.checkpoint-every", "3",
]  # fmt: skip
PLAIN, OUT, CROSS = ["--hook", DEEPER], ["--hook", READ, "--hook-out", WRITTEN], ["--hook", WRITTEN, "--more-hooks"]
CROSS = [*CROSS, DEEPER]
RUNS = {
    **{name: [*PLAIN, "--architecture", name] for name in ("topk", "batch_topk", "standard", "gated", "jumprelu")},
    "matryoshka": [*PLAIN, "--architecture", "matryoshka", "--sae.n-prefixes", "3"],
    "nested gated": [*PLAIN, "--architecture", "gated", "--sae.nest", "true", "--sae.n-prefixes", "3"],
    "jumprelu transcoder": [*OUT, "--architecture", "jumprelu"],
    "standard skip transcoder": [*OUT, "--architecture", "standard", "--sae.skip", "true"],
    "gated crosscoder": [*CROSS, "--architecture", "gated"],
    "jumprelu crosscoder": [*CROSS, "--architecture", "jumprelu"],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(400))
    return ["--model", str(folder / "model"), "--dataset", str(folder / "texts.jsonl"), *SMALL]


@pytest.mark.parametrize("name", RUNS)
def test_it_is_trained_and_evaluated(name, inputs, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *inputs, *RUNS[name], "--out", str(run)]) == 0
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    capsys.readouterr()
    assert main(["evaluate", str(run), "--tokens", "300", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["l0"] > 0
    assert told["fvu"] == pytest.approx(1 - told["explained_variance"])
    # A second run that begins where this one ended.
    warm = ["--warm-start", str(run), "--out", str(tmp_path / "warm")]
    assert main(["train", *inputs, *RUNS[name], *warm]) == 0


INTERRUPTED = {
    "jumprelu": RUNS["jumprelu"],
    "gated, resampled": [*RUNS["gated"], "--sae.dead-share", "0.05", "--sae.resample-at", "0.2,0.4"],
    "muon": [*RUNS["jumprelu"], "--optimiser", "muon"],
    "skip transcoder": RUNS["standard skip transcoder"],
    "crosscoder": RUNS["gated crosscoder"],
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_run_goes_on_to_the_same_bytes(name, inputs, tmp_path, monkeypatch):
    import interp.fitting as fitting

    original = fitting.save_checkpoint

    def stop(folder, state, **more):
        original(folder, state, **more)
        # The first resampling moment is step 4: one stop before it, one after.
        if state.step in (3, 6) and not (folder / f"stopped_{state.step}").exists():
            (folder / f"stopped_{state.step}").mkdir()
            raise KeyboardInterrupt

    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main(["train", *inputs, *INTERRUPTED[name], "--out", str(whole)]) == 0
    monkeypatch.setattr(fitting, "save_checkpoint", stop)
    arguments = ["train", *inputs, *INTERRUPTED[name], "--out", str(run), "--resume"]
    assert [main(arguments), main(arguments), main(arguments)] == [130, 130, 0]
    weights = [read_tensors(path / "sae" / "sae_weights.safetensors") for path in (whole, run)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][tensor], weights[1][tensor]) for tensor in weights[0])


REFUSED = [
    ([*OUT, "--architecture", "gated"], "gated for a transcoder"),
    ([*OUT, "--more-hooks", DEEPER], "more_hooks"),
    ([*PLAIN, "--sae.skip", "true"], "hook_out"),
    (["--hook", READ, "--hook-out", "blocks.0.hook_mlp_uot"], "did you mean"),
    ([*PLAIN, "--more-hooks", DEEPER], "name each hook once"),
    ([*PLAIN, "--more-hooks", "blocks.9.hook_resid_post"], "blocks are 0 to 2"),
    ([*PLAIN, "--warm-start", "/nowhere/run"], "no such"),
    ([*PLAIN, "--sae.resample-at", "1.5"], "resample_at"),
    ([*PLAIN, "--optimiser", "sgd"], "optimiser"),
    ([*PLAIN, "--sae.bandwidth", "0"], "bandwidth"),
]


def assert_refused(arguments, message, out, capsys):
    capsys.readouterr()
    assert main(["train", *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not out.exists()


@pytest.mark.parametrize(("more", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_go_together_is_one_line(more, message, inputs, tmp_path, capsys):
    assert_refused([*inputs, *more], message, tmp_path / "run", capsys)


def test_a_warm_start_of_another_width_hook_or_wiring_is_one_line(inputs, tmp_path, capsys):
    old = tmp_path / "old"
    assert main(["train", *inputs, *RUNS["topk"], "--out", str(old)]) == 0
    begun = [*inputs, "--warm-start", str(old)]
    assert_refused([*begun, *RUNS["topk"], "--d-sae", "64"], "32 features", tmp_path / "run", capsys)
    assert_refused([*begun, *RUNS["jumprelu transcoder"]], READ, tmp_path / "run", capsys)
    assert_refused([*begun, *RUNS["gated crosscoder"]], WRITTEN, tmp_path / "run", capsys)
    assert_refused([*begun, "--hook", "blocks.0.hook_resid_post"], DEEPER, tmp_path / "run", capsys)
