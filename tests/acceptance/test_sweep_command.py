"""`interp sweep` on a tiny model in a folder: every member is the SAE that it is alone, whatever interrupts it."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from interp.cli import main
from interp.storage import read_tensors
from tests.browsing import Visit, expect
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOK, OTHER_HOOK = "blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"
N_STEPS, EVERY = 30, 7


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(200))
    return {"model": str(folder / "model"), "dataset": str(folder / "texts.jsonl")}


def _config(path, inputs, grid, *, also=(), **base):
    values = {
        **inputs,
        "batch_size": 64,
        "tokens": 64 * N_STEPS,
        "hook": HOOK,
        "sae": {"d_sae": 64, "k": 4},
        "shuffle": {"block_tokens": 320},
        "data": {"context_size": 16, "heldout_share": 0.2},
        "recording": {"log_every": 5, "checkpoint_every": EVERY},
        **base,
    }
    path.write_text(yaml.safe_dump({"base": values, "grid": grid, "also": list(also)}))
    return str(path)


GRID = {"sae.architecture": ["matryoshka", "topk"], "seed": [0, 3]}
ALSO = (
    {"sae.architecture": "standard", "schedule.lr": 1e-3},
    {"sae.architecture": "gated"},
    {"sae.architecture": "jumprelu"},
    {"sae.architecture": "batch_topk", "hook": OTHER_HOOK, "sae.d_sae": 32},
)


@pytest.fixture(scope="module")
def config(inputs, tmp_path_factory):
    return _config(tmp_path_factory.mktemp("config") / "sweep.yaml", inputs, GRID, also=ALSO)


@pytest.fixture(scope="module")
def swept(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps") / "whole"
    assert main(["sweep", config, "--out", str(out), "--eval-tokens", "300"]) == 0
    return out


def _runs(out):
    return {path.name: path for path in sorted((out / "runs").iterdir())}


def _trained(run, step=N_STEPS):
    """What training left, and what it would go on from. Random state apart: nothing draws from it."""
    tensors = {f"sae/{name}": x for name, x in read_tensors(run / "sae" / "sae_weights.safetensors").items()}
    state = read_tensors(run / "checkpoints" / f"step_{step}" / "state.safetensors")
    return tensors | {name: x for name, x in state.items() if not name.startswith("rng/")}


def _same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def _steps(run):
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_members_are_proper_runs_under_readable_names(swept):
    runs = _runs(swept)
    assert set(runs) == {
        "L1.resid_post_matryoshka_d64_lr3e-4_s0",
        "L1.resid_post_matryoshka_d64_lr3e-4_s3",
        "L1.resid_post_topk_d64_lr3e-4_s0",
        "L1.resid_post_topk_d64_lr3e-4_s3",
        "L1.resid_post_standard_d64_lr1e-3_s0",
        "L1.resid_post_gated_d64_lr3e-4_s0",
        "L1.resid_post_jumprelu_d64_lr3e-4_s0",
        "L0.mlp_out_batch_topk_d32_lr3e-4_s0",
    }
    record = json.loads((swept / "sweep.json").read_text())
    assert (record["status"], record["step"]) == ("finished", N_STEPS)
    assert {member["n_steps"] for member in record["members"].values()} == {N_STEPS}
    for run in runs.values():
        assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
        assert _steps(run) == list(range(5, N_STEPS + 1, 5))


def test_each_member_is_the_same_trained_alone(swept, tmp_path):
    for name, run in _runs(swept).items():
        assert main(["train", str(run / "config.yaml"), "--out", str(tmp_path / name)]) == 0
        assert _same(_trained(run), _trained(tmp_path / name)), name
        for path in (run / "sae").iterdir():
            assert path.read_bytes() == (tmp_path / name / "sae" / path.name).read_bytes(), path


def test_members_are_measured_on_the_same_tokens_and_seeds_compared(swept, capsys):
    results = json.loads((swept / "sweep_results.json").read_text())
    runs = _runs(swept)
    assert {member["name"] for member in results["members"]} == set(runs)
    for member in results["members"]:
        evaluation = json.loads((runs[member["name"]] / "evaluation.json").read_text())
        assert evaluation["n_tokens"] == results["n_tokens"]
        assert member["explained_variance"] == evaluation["explained_variance"]
        assert member["ce_delta"] == evaluation["ce"]["delta"]
    assert [pair["members"] for pair in results["pairs"]] == [
        ["L1.resid_post_matryoshka_d64_lr3e-4_s0", "L1.resid_post_matryoshka_d64_lr3e-4_s3"],
        ["L1.resid_post_topk_d64_lr3e-4_s0", "L1.resid_post_topk_d64_lr3e-4_s3"],
    ]
    cost = results["cost"]
    assert cost["together_seconds"] < cost["alone_seconds"]


def test_a_report_made_again_says_the_same_and_evaluates_nothing_twice(swept, capsys):
    before = (swept / "sweep_results.json").read_bytes()
    stamps = [(run / "evaluation.json").stat().st_mtime_ns for run in _runs(swept).values()]
    assert main(["sweep", "--report", str(swept), "--eval-tokens", "300", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(swept / "sweep_report.html")
    assert (swept / "sweep_results.json").read_bytes() == before
    assert [(run / "evaluation.json").stat().st_mtime_ns for run in _runs(swept).values()] == stamps
    # The rate is called what the page calls it.
    assert main(["sweep", "--report", str(swept), "--eval-tokens", "300"]) == 0
    assert "step, tokens/s" in capsys.readouterr().out
    assert "step, tokens/s" in (swept / "sweep_report.html").read_text()


@pytest.mark.browser
def test_the_page_opens_offline_sorts_its_table_and_draws_in_both_themes(swept, browser):
    visit = Visit(browser, swept / "sweep_report.html", color_scheme="light")
    page = visit.open("#/overview")
    assert page.locator(".members tbody tr").count() == len(_runs(swept))
    page.locator(".members th button", has_text="EV").click()
    page.wait_for_function("location.hash === '#/overview/explained_variance/up'")
    expect(page.locator(".members th[aria-sort=ascending]")).to_have_text("EV")
    column = page.locator(".members thead th button").all_inner_texts().index("EV")
    lines = page.locator(".members tbody tr").all()
    shown = [float(line.locator("td").nth(column).inner_text().replace("\u2212", "-")) for line in lines]
    assert shown == sorted(shown)
    for name in ("variance", "ce", "likeness", "survival", "curves", "cost"):
        page.locator(f".plot-{name}").scroll_into_view_if_needed()
        page.wait_for_selector(f".plot-{name} .canvas[data-drawn=light] .main-svg")
    page.keyboard.press("t")
    page.wait_for_selector(".plot-cost .canvas[data-drawn=dark]")
    visit.close()


def test_a_dry_run_names_members_and_writes_nothing(config, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["sweep", config, "--out", str(out), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["members"]) == 8
    assert told["fits_memory"]
    assert told["alone_seconds"] > told["harvest_seconds"] + told["steps_seconds"]
    assert not out.exists()


def test_seeds_change_weights_and_not_what_is_seen(swept):
    """Two members that differ in their seed alone: other weights, the same tokens in the same order."""
    runs = _runs(swept)
    one, two = runs["L1.resid_post_topk_d64_lr3e-4_s0"], runs["L1.resid_post_topk_d64_lr3e-4_s3"]
    assert not torch.equal(_trained(one)["task/W_dec"], _trained(two)["task/W_dec"])
    configs = [yaml.safe_load((run / "config.yaml").read_text()) for run in (one, two)]
    assert [config["shuffle"]["seed"] for config in configs] == [0, 0]
    assert [config["seed"] for config in configs] == [0, 3]


def test_a_killed_sweep_resumes_to_the_same_bytes(config, swept, tmp_path):
    """SIGKILL at random moments, twice, each after at least one more checkpoint of all members."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "interp", "sweep", config, "--out", str(out), "--resume", "--eval-tokens", "300"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(2):
        before = _step(out)
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and _step(out) <= before:
            time.sleep(0.005)
        time.sleep(random.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_at = _step(out)
    assert main(command[3:]) == 0
    for name, run in _runs(swept).items():
        assert _same(_trained(run), _trained(out / "runs" / name)), f"{name}, killed after {killed_at}"
        assert _steps(out / "runs" / name) == _steps(run)


def test_a_sweep_that_harvests_beside_its_steps_ends_with_the_same_bytes(inputs, swept, tmp_path):
    config = _config(tmp_path / "sweep.yaml", inputs, GRID, also=ALSO, harvest={"prefetch": 3})
    assert main(["sweep", config, "--out", str(tmp_path / "ahead"), "--eval-tokens", "300"]) == 0
    for name, run in _runs(swept).items():
        assert _same(_trained(run), _trained(tmp_path / "ahead" / "runs" / name)), name
    parts = [json.loads((out / "sweep.json").read_text())["memory_bytes"] for out in (swept, tmp_path / "ahead")]
    assert ["activations ahead" in one for one in parts] == [False, True]


def _step(out):
    try:
        return json.loads((out / "sweep.json").read_text())["step"]
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("after", [0, 5, 11])
def test_a_sweep_cut_off_between_members_checkpoints_resumes_to_the_same_bytes(
    config, swept, tmp_path, monkeypatch, after
):
    """Whatever part of a round of checkpoints is on disk, all members go back to the round before."""
    import interp.fitting as fitting

    original, saved = fitting.save_checkpoint, []

    def stop(folder, state, **more):
        if len(saved) == after:
            raise KeyboardInterrupt
        saved.append(state.step)
        original(folder, state, **more)

    monkeypatch.setattr(fitting, "save_checkpoint", stop)
    arguments = ["sweep", config, "--out", str(tmp_path / "run"), "--eval-tokens", "300"]
    assert main(arguments) == 130
    monkeypatch.undo()
    assert _step(tmp_path / "run") == EVERY * (after // len(_runs(swept)))
    assert main([*arguments, "--resume"]) == 0
    for name, run in _runs(swept).items():
        assert _same(_trained(run), _trained(tmp_path / "run" / "runs" / name)), name


def test_a_member_that_diverges_is_named_and_the_others_go_on(inputs, tmp_path, capsys):
    config = _config(tmp_path / "sweep.yaml", inputs, {"schedule.lr": [1e-3, 1e30]})
    out = tmp_path / "run"
    assert main(["sweep", config, "--out", str(out), "--eval-tokens", "300"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "lr1e30" in error
    assert "1 of 2" in error
    record = json.loads((out / "sweep.json").read_text())
    assert {name: member["status"] for name, member in record["members"].items()} == {
        "lr1e-3": "finished",
        "lr1e30": "failed",
    }
    alone = tmp_path / "alone"
    assert main(["train", str(out / "runs" / "lr1e-3" / "config.yaml"), "--out", str(alone)]) == 0
    assert _same(_trained(out / "runs" / "lr1e-3"), _trained(alone))


def test_a_member_that_was_finished_alone_is_left_as_it_is(config, swept, tmp_path, monkeypatch):
    import interp.fitting as fitting

    original, saved = fitting.save_checkpoint, []

    def stop(folder, state, **more):
        original(folder, state, **more)
        saved.append(state.step)
        if saved.count(14) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save_checkpoint", stop)
    out = tmp_path / "run"
    arguments = ["sweep", config, "--out", str(out), "--eval-tokens", "300"]
    assert main(arguments) == 130
    monkeypatch.undo()
    name = "L1.resid_post_topk_d64_lr3e-4_s0"
    assert main(["train", str(out / "runs" / name / "config.yaml"), "--resume"]) == 0
    assert main([*arguments, "--resume"]) == 0
    for name, run in _runs(swept).items():
        assert _same(_trained(run), _trained(out / "runs" / name)), name


BAD = [
    ({"sae.kk": [3]}, {}, "did you mean 'sae.k'"),
    ({"data.context_size": [8, 16]}, {}, "changes the stream"),
    ({"tokens": [640, 1280]}, {}, "same steps"),
    ({"sae.k": 4}, {}, "expected a list"),
    ({"sae.k": [4, 65]}, {}, "member with sae.k 65"),
    ({"sae.k": [4, 4]}, {}, "two members"),
    ({}, {}, "no member"),
    ({"hook": [HOOK, "blocks.1.hook_resid_pots"]}, {}, "did you mean"),
    ({"sae.d_sae": [64, 10**12]}, {}, "members need"),
    ({"seed": [0, -1]}, {}, "seed"),
    ({"seed": [0, 1]}, {"model": "/nowhere/model"}, "no such folder"),
    ({"seed": [0, 1]}, {"out": "elsewhere"}, "base.out"),
]


@pytest.mark.parametrize(("grid", "base", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_one_line_and_exit_2(inputs, tmp_path, capsys, grid, base, message):
    config = _config(tmp_path / "sweep.yaml", inputs, grid, **base)
    out = tmp_path / "run"
    assert main(["sweep", config, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not out.exists()


def test_an_occupied_folder_and_other_settings_are_told(config, swept, capsys):
    assert main(["sweep", config, "--out", str(swept)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["sweep", config, "--out", str(swept), "--resume", "--clip-norm", "2"]) == 2
    assert "base.clip_norm = 1.0" in capsys.readouterr().err


def test_a_flag_for_what_the_grid_says_is_refused(config, tmp_path, capsys):
    assert main(["sweep", config, "--out", str(tmp_path / "run"), "--seed", "5"]) == 2
    assert "grid" in capsys.readouterr().err
    assert main(["sweep"]) == 2
    assert "give the YAML file" in capsys.readouterr().err
    assert main(["sweep", "--report", str(tmp_path)]) == 2
    assert "holds no sweep.json" in capsys.readouterr().err
