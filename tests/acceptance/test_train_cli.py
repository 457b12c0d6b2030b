"""`interp train`, `evaluate` and `report` on a tiny model in a folder: files, resume, errors."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from interp.cli import main
from interp.storage import read_tensors
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOK = "blocks.1.hook_resid_post"
SMALL = [
    "--hook", HOOK, "--sae.d-sae", "64", "--k", "4", "--batch-size", "64", "--tokens", "3200",
    "--shuffle.block-tokens", "320", "--data.context-size", "16", "--recording.log-every", "5",
    "--recording.checkpoint-every", "7", "--data.heldout-share", "0.2",
]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(200))
    return ["--model", str(folder / "model"), "--dataset", str(folder / "texts.jsonl")]


def _weights(run):
    return read_tensors(run / "sae" / "sae_weights.safetensors")


def _same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", *inputs, *SMALL, "--out", str(run)]) == 0
    return run


def test_a_run_leaves_what_the_next_commands_need(trained, capsys):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(5, 51, 5))
    assert {"loss", "l0", "explained_variance", "lr", "grad_norm", "tokens_per_s"} <= rows[-1].keys()
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert {"python", "torch", "transformers"} <= manifest["versions"].keys()
    assert json.loads((trained / "sae" / "cfg.json").read_text())["architecture"] == "jumprelu"

    assert main(["evaluate", str(trained), "--tokens", "500", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((trained / "evaluation.json").read_text())
    assert told["fvu"] == pytest.approx(1 - told["explained_variance"])
    assert [prefix["width"] for prefix in told["prefixes"]] == [4, 8, 16, 32, 64]

    assert main(["report", str(trained), "--tokens", "500", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)["report"]
    assert page == str(trained / "report.html")
    assert "http://" not in (trained / "report.html").read_text()[:2000]


@pytest.mark.parametrize(("k", "weight", "told"), [("4", None, True), ("4", "0.001", False), ("8", None, False)])
def test_an_l0_far_from_what_training_aimed_at_is_told(inputs, tmp_path, capsys, k, weight, told):
    """Two steps steer nothing anywhere; a penalty of a fixed weight aims at nothing, and so many fire as are wanted."""
    run = str(tmp_path / "run")
    fixed = [] if weight is None else ["--sae.l1-coefficient", weight]
    kind = "topk" if k == "8" else "standard"
    flags = ["--architecture", kind, *fixed, "--tokens", "128", "--batch-size", "64", "--k", k]
    assert main(["train", *inputs, *SMALL, *flags, "--out", run]) == 0
    assert main(["evaluate", run, "--tokens", "300"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert ("training aimed at 4: the run may have been too short to settle there; give it more tokens" in out) == told


@pytest.mark.parametrize(("n_texts", "told"), [(6, True), (200, False)])
def test_text_that_is_read_again_is_told(inputs, tmp_path, capsys, n_texts, told):
    text = write_jsonl(tmp_path / "texts.jsonl", tiny_texts(n_texts))
    flags = [*inputs, *SMALL, "--dataset", str(text), "--tokens", "1280", "--data.heldout-share", "0"]
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 0
    assert ("its text or activations were read" in capsys.readouterr().err) == told


@pytest.mark.parametrize("name", ["sae/notes.txt", "checkpoints/mine", "sweep.json"])
def test_what_stands_in_a_folder_is_never_replaced(inputs, tmp_path, capsys, name):
    """`--out runs` where `--out runs/mine` was meant: runs/sae may be a run of its own."""
    held = tmp_path / "runs" / name
    held.parent.mkdir(parents=True)
    held.write_text("precious")
    assert main(["train", *inputs, *SMALL, "--out", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err
    assert f"holds {name.split('/')[0]} of something else" in told.splitlines()[-1]
    assert held.read_text() == "precious"
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == [held]


def test_the_same_command_gives_the_same_bytes(inputs, trained, tmp_path):
    assert main(["train", *inputs, *SMALL, "--out", str(tmp_path / "again")]) == 0
    assert _same(_weights(trained), _weights(tmp_path / "again"))


def test_training_from_disk_equals_training_from_the_model(inputs, trained, tmp_path):
    acts = str(tmp_path / "acts")
    collect = ["--hooks", HOOK, "--tokens", "3500", "--data.context-size", "16", "--data.heldout-share", "0.2"]
    assert main(["collect", *inputs, *collect, "--store.shard-tokens", "1000", "--out", acts]) == 0
    assert main(["train", *inputs, *SMALL, "--activations", acts, "--out", str(tmp_path / "disk")]) == 0
    assert _same(_weights(trained), _weights(tmp_path / "disk"))


def test_a_killed_run_resumes_to_the_same_bytes(inputs, trained, tmp_path):
    """SIGKILL at a random moment after the first checkpoint, as often as it takes."""
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "interp", "train", *inputs, *SMALL, "--out", str(run), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (run / "checkpoints" / "latest").exists():
        time.sleep(0.005)
    time.sleep(random.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = (run / "checkpoints" / "latest").read_text().strip()
    assert main(["train", *inputs, *SMALL, "--out", str(run), "--resume"]) == 0
    assert _same(_weights(trained), _weights(run)), f"killed after {killed_at}"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(5, 51, 5))


@pytest.mark.parametrize("step", [7, 35])
def test_a_run_stopped_after_any_checkpoint_resumes_to_the_same_bytes(inputs, trained, tmp_path, monkeypatch, step):
    import interp.fitting as fitting

    original = fitting.save_checkpoint

    def stop(folder, state, **more):
        original(folder, state, **more)
        if state.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save_checkpoint", stop)
    arguments = ["train", *inputs, *SMALL, "--out", str(tmp_path / "run")]
    assert main(arguments) == 130
    monkeypatch.undo()
    assert main([*arguments, "--resume"]) == 0
    assert _same(_weights(trained), _weights(tmp_path / "run"))


def test_a_damaged_checkpoint_is_told_and_the_one_before_goes_on(inputs, trained, tmp_path, monkeypatch, capsys):
    import interp.fitting as fitting

    original = fitting.save_checkpoint

    def stop(folder, state, **more):
        original(folder, state, **more)
        if state.step == 14:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save_checkpoint", stop)
    run = tmp_path / "run"
    arguments = ["train", *inputs, *SMALL, "--out", str(run)]
    assert main(arguments) == 130
    monkeypatch.undo()
    damaged = run / "checkpoints" / "step_14" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 2
    assert "--resume-from step_7" in capsys.readouterr().err
    assert main([*arguments, "--resume-from", "step_7"]) == 0
    assert _same(_weights(trained), _weights(run))


def test_a_finished_run_is_not_trained_again(inputs, trained):
    before = (trained / "sae" / "sae_weights.safetensors").stat().st_mtime_ns
    assert main(["train", *inputs, *SMALL, "--out", str(trained), "--resume"]) == 0
    assert (trained / "sae" / "sae_weights.safetensors").stat().st_mtime_ns == before


BAD = [
    (["--hook", "blocks.1.hook_resid_pots"], "did you mean"),
    (["--hook", "blocks.9.hook_resid_post"], "blocks are 0 to 2"),
    (["--model", "/nowhere/model"], "no such folder"),
    (["--dataset", "/nowhere/text.jsonl"], "no such file"),
    (["--k", "65"], "d_sae"),
    (["--k", "0"], "sae.k"),
    (["--k", "four"], "sae.k: got 'four'"),
    (["--tokens", "10"], "at least one batch"),
    (["--tokens", "many"], "tokens"),
    (["--batch-size", "0"], "batch_size"),
    (["--data.context-size", "500"], "at most 24"),
    (["--device", "tpu"], "expected auto, cpu or cuda"),
    (["--dtype", "int3"], "dtype"),
    (["--schedule.lr", "nan"], "schedule.lr"),
    (["--schedule.lr", "-1"], "schedule.lr"),
    (["--sae.architecture", "sparsemax"], "architecture"),
    (["--sae.prefixes", "8,4,64"], "ascending"),
    (["--sae.kk", "3"], "--sae.k"),
    (["--data.heldout-share", "1.5"], "heldout_share"),
    (["--data.text-field", "story"], "no field 'story'"),
    (["--resume-from", "step_3"], "no run"),
    (["--seed", "-1"], "seed"),
    (["--seed", "99999999999999999999"], "seed"),
    (["--dataset", ""], "empty"),
    (["--model", ""], "empty"),
    (["--dataset", "x" * 300 + ".txt"], "cannot be looked at"),
    (["--sae.d-sae", "1000000000000"], "do not fit into memory"),
    (["/nowhere/config.yaml"], "no such config file"),
]


@pytest.mark.parametrize(("more", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_exit_2(inputs, tmp_path, capsys, more, message):
    out = tmp_path / "run"
    assert main(["train", *inputs, *SMALL, "--out", str(out), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not out.exists()


def test_an_occupied_folder_is_told_and_left_alone(inputs, trained, capsys):
    before = sorted(path.name for path in trained.iterdir())
    assert main(["train", *inputs, *SMALL, "--out", str(trained)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", *inputs, *SMALL, "--k", "5", "--out", str(trained), "--resume"]) == 2
    assert "sae.k = 4" in capsys.readouterr().err
    assert sorted(path.name for path in trained.iterdir()) == before


def test_a_config_that_stands_in_the_folder_is_not_replaced(inputs, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(f"hook: {HOOK}  # mine\n")
    assert main(["train", str(tmp_path / "config.yaml"), *inputs, *SMALL, "--out", str(tmp_path)]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == f"hook: {HOOK}  # mine\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.heldout-share", "0.1"], "heldout_share"),
        (["--data.mask.mask-bos", "false"], "mask_policy"),
        (["--data.context-size", "12"], "context_size"),
        (["--dataset", "other.jsonl"], "dataset"),
    ],
)
def test_activations_of_another_split_mask_or_text_are_refused(inputs, tmp_path, capsys, more, message):
    """Otherwise text that the SAE was trained on could be called held out."""
    acts = str(tmp_path / "acts")
    collect = ["--hooks", HOOK, "--tokens", "500", "--data.context-size", "16", "--data.heldout-share", "0.2"]
    assert main(["collect", *inputs, *collect, "--out", acts]) == 0
    capsys.readouterr()
    assert main(["train", *inputs, *SMALL, "--activations", acts, "--out", str(tmp_path / "run"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_without_its_metrics_is_told(inputs, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["train", *inputs, *SMALL, "--out", str(run)]
    assert main(arguments) == 0
    (run / "metrics.jsonl").unlink()
    assert main([*arguments, "--resume"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--resume-from", "step_49"]) == 2
    assert "metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_folders_that_are_no_finished_run_are_told(tmp_path, capsys, command):
    assert main([command, str(tmp_path / "none")]) == 2
    assert "no such run folder" in capsys.readouterr().err
    assert main([command, str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_a_model_with_nan_weights_stops_before_a_run_folder_is_made(inputs, tmp_path, capsys):
    model = tiny_model("llama")
    with torch.no_grad():
        model.hf.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    save_model(model, tmp_path / "model")
    arguments = ["train", *inputs, *SMALL, "--model", str(tmp_path / "model"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "NaN" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
