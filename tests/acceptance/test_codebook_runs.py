"""Codebook SAEs go on after an interruption and stand in sweeps to the same bytes, whatever their variant."""

import json

import pytest
import torch
import yaml

import interp.fitting as fitting
from interp.cli import main
from interp.storage import read_tensors
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOK, N_STEPS = "blocks.1.hook_resid_post", 30
VARIANTS = {
    "plain": {"sae.k": 4, "sae.d_sae": 32},
    "grouped": {"sae.k": 4, "sae.d_sae": 32, "sae.n_groups": 4},
    "residual": {"sae.k": 4, "sae.d_sae": 32, "sae.n_stages": 2},
    "latent": {"sae.k": 6, "sae.d_sae": 24, "sae.levels": 4},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(120))
    return {
        "model": str(folder / "model"),
        "dataset": str(folder / "texts.jsonl"),
        "batch_size": 64,
        "tokens": 64 * N_STEPS,
        "hook": HOOK,
        # A code that one batch passes over is dead: at steps 3, 7, 11 and 15 many begin anew.
        "sae": {"architecture": "codebook", "d_sae": 32, "k": 4, "dead_share": 0.02},
        "schedule": {"lr": 3e-3},
        "shuffle": {"block_tokens": 320},
        "data": {"context_size": 16, "heldout_share": 0.2},
        "recording": {"log_every": 5, "checkpoint_every": 7},
    }


@pytest.fixture(scope="module")
def swept(base, tmp_path_factory):
    """A sweep of all variants: its folder, and the run of each."""
    folder = tmp_path_factory.mktemp("sweep")
    also = [{"sae.codebook_variant": name, **settings} for name, settings in VARIANTS.items()]
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"base": base, "also": also}))
    out = folder / "out"
    assert main(["sweep", str(folder / "sweep.yaml"), "--out", str(out), "--eval-tokens", "200"]) == 0
    runs = {}
    for run in (out / "runs").iterdir():
        runs[yaml.safe_load((run / "config.yaml").read_text())["sae"]["codebook_variant"]] = run
    assert runs.keys() == VARIANTS.keys()
    return runs


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _state(run):
    state = read_tensors(run / "checkpoints" / f"step_{N_STEPS}" / "state.safetensors")
    return {name: x for name, x in state.items() if not name.startswith("rng/")}


def _check_same(one, two):
    assert _files(one / "sae") == _files(two / "sae")
    states = _state(one), _state(two)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())
    steps = [
        [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)
    ]
    assert steps[0] == steps[1] == list(range(5, N_STEPS + 1, 5))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_cut_off_midway_is_a_member_of_a_sweep_byte_for_byte(swept, tmp_path, monkeypatch, variant):
    """Trained alone, cut off before its second checkpoint is on disk, resumed from its first, cut off again later."""
    original, stops = fitting.save_checkpoint, [14, 28]

    def stop(folder, state, **more):
        if stops and state.step == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        original(folder, state, **more)

    monkeypatch.setattr(fitting, "save_checkpoint", stop)
    run = tmp_path / "run"
    arguments = ["train", str(swept[variant] / "config.yaml"), "--out", str(run)]
    assert main(arguments) == 130
    assert (run / "checkpoints" / "latest").read_text().strip() == "step_7"
    assert main([*arguments, "--resume"]) == 130
    assert main([*arguments, "--resume"]) == 0
    assert not stops
    _check_same(swept[variant], run)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_uninterrupted_run_is_a_member_of_a_sweep_byte_for_byte(swept, tmp_path, variant):
    assert main(["train", str(swept[variant] / "config.yaml"), "--out", str(tmp_path / "run")]) == 0
    _check_same(swept[variant], tmp_path / "run")
