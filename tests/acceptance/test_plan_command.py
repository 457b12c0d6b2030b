"""`interp plan` on a tiny model: what it says, what it leaves behind (nothing), errors in one line."""

import json

import pytest

import saes.planning.run_plan as run_plan
from interp.cli import main
from interp.cli.plan import duration, size
from saes.planning.calibration import calibrate
from saes.training import TrainConfig
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOK = "blocks.1.hook_resid_post"
SIZE = ["--hook", HOOK, "--d-sae", "256", "--k", "4", "--batch-size", "64", "--tokens", "1280"]
MORE = ["--shuffle.block-tokens", "320", "--data.context-size", "16", "--recording.checkpoint-every", "7"]
SMALL = [*SIZE, *MORE]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(100))
    return ["--model", str(folder / "model"), "--dataset", str(folder / "texts.jsonl")]


def _plan(capsys, *arguments):
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "matryoshka", "standard"])
def test_a_plan_tells_what_the_run_then_does(inputs, tmp_path, capsys, architecture):
    out = tmp_path / "run"
    arguments = [*inputs, *SMALL, "--architecture", architecture, "--out", str(out)]
    told = _plan(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []
    assert told["measured"]
    assert told["fits_memory"]
    assert told["seconds"] == pytest.approx(sum(told["seconds_by"].values()))
    assert told["memory_bytes"] == sum(told["memory_by"].values())
    assert min(told["seconds_by"].values()) > 0
    assert main(["train", *arguments]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (rows[-1]["step"], rows[-1]["n_tokens"]) == (told["n_steps"], told["n_tokens"])
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert told["disk_bytes"] == pytest.approx(disk, rel=0.15)


def test_what_is_counted_does_not_depend_on_whether_it_is_measured(inputs, capsys):
    measured = _plan(capsys, *inputs, *SMALL)
    counted = _plan(capsys, *inputs, *SMALL, "--no-calibrate")
    assert not counted["measured"]
    for name in ("flops_by", "disk_bytes", "n_steps", "n_harvested_tokens", "n_parameters"):
        assert counted[name] == measured[name]
    assert main(["plan", *inputs, *SMALL, "--no-calibrate"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "NOT measured" in shown
    assert "the model reads 1,280" in shown


def test_activations_on_disk_are_planned_without_the_model(inputs, tmp_path, capsys):
    acts = str(tmp_path / "acts")
    collect = ["--hooks", HOOK, "--tokens", "900", "--data.context-size", "16", "--out", acts]
    assert main(["collect", *inputs, *collect]) == 0
    capsys.readouterr()
    told = _plan(capsys, *inputs, *SMALL, "--activations", acts)
    assert told["measured"]
    assert told["flops_by"]["harvest"] == 0
    assert told["seconds_by"]["harvest"] > 0
    assert main(["plan", *inputs, *SMALL, "--activations", acts, "--no-calibrate"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1,280 read from disk" in shown
    assert "model reads" not in shown


def test_what_does_not_fit_is_not_tried(inputs, capsys, monkeypatch):
    def fails(*_):
        raise AssertionError("was tried")

    monkeypatch.setattr(run_plan, "calibrate", fails)
    assert main(["plan", *inputs, *SMALL, "--d-sae", "100000000000"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("DOES NOT FIT") == 2
    assert "not tried" in told


def test_a_batch_larger_than_the_text_is_tried_with_its_tokens_repeated(inputs):
    flags = dict(zip(inputs[::2], inputs[1::2], strict=True))
    config = TrainConfig(
        model=flags["--model"], dataset=flags["--dataset"], hook=HOOK, tokens=50_000, batch_size=50_000,
        data={"context_size": 16}, sae={"d_sae": 32, "k": 2, "architecture": "topk"},
    )  # fmt: skip
    source = run_plan.open_source(config)
    counts = run_plan.counts_of(config, source)
    assert calibrate(counts, source, source[0].device).per_step > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hook", "blocks.9.hook_resid_post"], "no hook 'blocks.9.hook_resid_post'"),
        (["--dataset", "nowhere.jsonl"], "no such file"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--k", "500"], "500 active of d_sae 256"),
        (["--data.context-size", "99"], "reads at most 24"),
        (["/nowhere/config.yaml"], "no such config file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(inputs, capsys, more, message):
    assert main(["plan", *inputs, *SMALL, *more]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_times_and_sizes_read_well():
    assert [duration(s) for s in (2.34, 12.6, 600, 9000, 400_000)] == ["2.3 s", "13 s", "10 min", "2.5 h", "4.6 days"]
    assert [size(n) for n in (12, 4_300, 7.6e8, 2.34e9, 5e12)] == ["12 bytes", "4 kB", "760 MB", "2.3 GB", "5.0 TB"]
