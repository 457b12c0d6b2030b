"""`interp train` and `collect` on several processes: the files of one process, a lost rank, other numbers of ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from interp.checkpoints import load_checkpoint
from interp.cli import main
from interp.storage import read_tensors
from saes.sweep import sweep
from saes.sweep_config import SweepConfig
from saes.training import TrainConfig, train
from tests.families import save_model, tiny_model
from tests.rank_cases import collect_all, sweep_all, train_all
from tests.ranks import on_ranks
from tests.texts import tiny_texts, write_jsonl

# On a busy machine several processes may take minutes to start.
pytestmark = pytest.mark.timeout(1800)

HOOK = "blocks.1.hook_resid_post"
SMALL = {
    "hook": HOOK, "sae.d_sae": 64, "sae.k": 4, "batch_size": 64, "tokens": 3200, "shuffle.block_tokens": 320,
    "data.context_size": 16, "data.heldout_share": 0.2, "recording.log_every": 5, "recording.checkpoint_every": 20,
    "recording.keep_checkpoints": 9, "sae.dead_share": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(200))
    return {"model": str(folder / "model"), "dataset": str(folder / "texts.jsonl")}


def _flags(settings):
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _weights(run):
    return read_tensors(run / "sae" / "sae_weights.safetensors")


def _same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def _layout(checkpoint):
    """Everything of a safetensors file that is not numbers."""
    data = (checkpoint / "state.safetensors").read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


@pytest.fixture(scope="module")
def runs(inputs, tmp_path_factory):
    """The same run by one process and by two, and each gone on with, after step 20, by other numbers of ranks."""
    folder = tmp_path_factory.mktemp("runs")
    names = ("alone", "two", "two_again", "one_then_two", "two_then_four", "four_then_two", "four_then_one")
    paths = {name: folder / name for name in names}
    settings = {**inputs, **SMALL}
    for name in ("alone", "one_then_two"):
        assert main(["train", *_flags(settings), "--out", str(paths[name])]) == 0
    one = [{**settings, "out": str(paths[name])} for name in ("two", "two_again", "two_then_four")]
    go_on = [{**one[1], "resume_from": "step_20"}, {**settings, "out": str(paths[names[3]]), "resume_from": "step_20"}]
    assert on_ranks(2, train_all, [*one, *go_on]) == [[""] * 5] * 2
    four = [{**settings, "out": str(paths[name])} for name in ("four_then_two", "four_then_one")]
    assert on_ranks(4, train_all, [{**one[2], "resume_from": "step_20"}, *four]) == [[""] * 3] * 4
    assert on_ranks(2, train_all, [{**four[0], "resume_from": "step_20"}]) == [[""]] * 2
    train(TrainConfig.load(None, four[1]), resume_from="step_20")
    return paths


def test_two_ranks_write_what_one_process_writes(runs):
    """Numbers differ by the order of summation alone: in float32, over 50 steps, by less than one in a thousand."""
    one, two = _rows(runs["alone"]), _rows(runs["two"])
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for name in ("step", "n_tokens", "l0", "lr", "dense"):
        assert [row[name] for row in one] == [row[name] for row in two]
    for name in ("loss", "threshold", "grad_norm", "explained_variance"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-3), name
    assert {p.name for p in runs["alone"].rglob("*")} == {p.name for p in runs["two"].rglob("*")}
    manifests = [json.loads((runs[name] / "manifest.json").read_text()) for name in ("alone", "two")]
    assert [manifest["status"] for manifest in manifests] == ["finished"] * 2
    assert manifests[0]["data"] == manifests[1]["data"]


def test_checkpoints_do_not_tell_how_many_ranks_there_were(runs):
    one, two = (runs[name] / "checkpoints" / "step_40" for name in ("alone", "two"))
    assert _layout(one) == _layout(two)
    states = [load_checkpoint(path) for path in (one, two)]
    assert states[0].cursor == states[1].cursor
    assert torch.equal(states[0].tensors["n_updates"], states[1].tensors["n_updates"])


def test_going_on_with_two_ranks_gives_the_bytes_of_two_that_never_stopped(runs):
    assert _same(_weights(runs["two"]), _weights(runs["two_again"]))
    one, two = (
        [{key: value for key, value in row.items() if not key.startswith(("seconds", "tokens_per"))} for row in rows]
        for rows in (_rows(runs["two"]), _rows(runs["two_again"]))
    )
    assert one == two


@pytest.mark.parametrize("name", ["one_then_two", "two_then_four", "four_then_two", "four_then_one"])
def test_other_numbers_of_ranks_go_on(runs, name):
    whole, changed = _rows(runs["alone"]), _rows(runs[name])
    assert [row["step"] for row in changed] == [row["step"] for row in whole]
    assert [row["loss"] for row in changed] == pytest.approx([row["loss"] for row in whole], rel=1e-3)


SHORT = {**SMALL, "tokens": 64 * 16, "recording.checkpoint_every": 100}
KINDS = {
    "gated": {"sae.architecture": "gated", "sae.resample_at": (0.5,), "sae.l0_rate": 0.01},
    "skip": {"hook_out": "blocks.1.hook_mlp_out", "sae.skip": True, "sae.architecture": "jumprelu"},
    "crosscoder": {"more_hooks": ("blocks.0.hook_resid_post",), "sae.architecture": "batch_topk"},
    "codebook": {"sae.architecture": "codebook", "sae.codebook_variant": "residual", "sae.n_stages": 4},
}


def test_every_kind_of_dictionary_is_trained_as_by_one_process(inputs, tmp_path):
    both = {n: [{**inputs, **SHORT, **kind, "out": str(tmp_path / n / name)} for name, kind in KINDS.items()]
            for n in ("one", "two")}  # fmt: skip
    for settings in both["one"]:
        train(TrainConfig.load(None, settings))
    assert on_ranks(2, train_all, both["two"]) == [[""] * len(KINDS)] * 2
    for name in KINDS:
        one, two = (tmp_path / n / name for n in ("one", "two"))
        assert {p.name for p in one.rglob("*")} == {p.name for p in two.rglob("*")}
        assert [row.keys() for row in _rows(one)] == [row.keys() for row in _rows(two)]
        for term in ("loss", "l0", "dead", "dense", "threshold"):
            assert [row[term] for row in _rows(two)] == pytest.approx([row[term] for row in _rows(one)], rel=1e-4)
        shapes = [{key: x.shape for key, x in _weights(run).items()} for run in (one, two)]
        assert shapes[0] == shapes[1]


def test_what_is_wrong_all_ranks_say(inputs, runs):
    settings = {**inputs, **SMALL}
    wrong = [
        {**settings, "out": str(runs["two"])},
        {**settings, "out": str(runs["two"].with_name("new")), "hook": "blocks.9.hook_resid_post"},
        {**settings, "out": str(runs["two"].with_name("new")), "optimiser": "muon"},
        {**settings, "out": str(runs["two"]), "resume_from": "step_7"},
    ]
    parts = ("already holds a run", "no hook 'blocks.9.hook_resid_post'", "needs whole matrices", "no such checkpoint")
    for told in on_ranks(2, train_all, wrong):
        for message, part in zip(told, parts, strict=True):
            assert part in message
    assert not runs["two"].with_name("new").exists()


@pytest.mark.parametrize("n", [2, 4])
def test_collecting_by_several_gives_the_files_of_one(inputs, tmp_path, n):
    settings = {
        **inputs, "hooks": [HOOK, "blocks.0.hook_mlp_out"], "tokens": 2000, "data.context_size": 16,
        "store.shard_tokens": 600, "data.heldout_share": 0.2,
    }  # fmt: skip
    flags = _flags({**settings, "hooks": ",".join(settings["hooks"])})
    assert main(["collect", *flags, "--tokens", "1000", "--out", str(tmp_path / "one")]) == 0
    assert main(["collect", *flags, "--out", str(tmp_path / "one"), "--resume"]) == 0
    on_ranks(n, collect_all, {**settings, "out": str(tmp_path / "several")})
    shards = sorted(path.name for path in (tmp_path / "one").glob("shard_*"))
    assert shards == sorted(path.name for path in (tmp_path / "several").glob("shard_*"))
    for name in shards:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()


GRID = {"sae.architecture": ["matryoshka", "standard", "gated"], "seed": [0, 3]}
# Nothing that is finite survives such a rate; the last of two or of four ranks has it.
FAILS = {"sae.architecture": "topk", "schedule.lr": 1e30}


@pytest.mark.parametrize("n", [2, 4])
def test_a_sweep_on_ranks_trains_the_members_that_one_process_trains(inputs, tmp_path, n):
    base = {"tokens": 64 * 12, "batch_size": 64, "hook": HOOK, "sae": {"d_sae": 64, "k": 4}, **inputs}
    more = {"shuffle": {"block_tokens": 320}, "data": {"context_size": 16}, "recording": {"checkpoint_every": 5}}
    config = tmp_path / "sweep.yaml"
    also = [{"seed": 5, "sae.k": 2}, FAILS]
    config.write_text(yaml.safe_dump({"base": {**base, **more}, "grid": GRID, "also": also}))
    one, two, cut = (tmp_path / name for name in ("one", "two", "cut"))
    for out in (one, cut):
        sweep(SweepConfig.load(config, {"out": str(out)}))
    _cut_off(cut, step=10)
    told = on_ranks(n, sweep_all, config, [(two, False), (two, False), (cut, True)])
    taken = f"{two}: already holds a sweep; give another --out, or --resume to go on with it"
    assert told == [["", taken, ""]] * n
    names = list(json.loads((one / "sweep.json").read_text())["members"])
    for out in (two, cut):
        record = json.loads((out / "sweep.json").read_text())
        assert (record["status"], record["step"]) == ("finished", 12)
        assert [record["members"][name]["status"] for name in names] == ["finished"] * 7 + ["failed"]
        assert [record["members"][name]["n_steps"] for name in names[:7]] == [12] * 7
        for name in names[:7]:
            runs = one / "runs" / name, out / "runs" / name
            assert _same(*map(_weights, runs)), name
            states = [(run / "checkpoints" / "step_12" / "state.safetensors").read_bytes() for run in runs]
            assert states[0] == states[1], name


def _cut_off(folder, *, step):
    """Leave a sweep as it is when it is cut off after a round of checkpoints."""
    record = json.loads((folder / "sweep.json").read_text())
    for name, member in record["members"].items():
        if member["status"] == "finished":
            manifest = folder / "runs" / name / "manifest.json"
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "status": "running"}))
            member["status"], member["n_steps"] = "running", step
    (folder / "sweep.json").write_text(json.dumps({**record, "status": "running", "step": step}))


def _rank_of(pid):
    """Rank of a process that torchrun started; None of others."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((int(word[5:]) for word in words if word.startswith(b"RANK=")), None)


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _launched(flags, log, *more, killed=1):
    """torchrun with two ranks, of which one is killed once there is a checkpoint."""
    run = Path(flags[flags.index("--out") + 1])
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", *more, "--nproc-per-node", "2"]
    with log.open("w") as file:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [*words, "-m", "interp", "train", *flags]
        launcher = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    while launcher.poll() is None and not (run / "checkpoints" / "latest").exists():
        time.sleep(0.01)
    found = [pid for pid in _children(launcher.pid) if _rank_of(pid) == killed] if launcher.poll() is None else []
    assert found, f"torchrun ended before its rank {killed} could be killed:\n{log.read_text()}"
    os.kill(found[0], signal.SIGKILL)
    return launcher


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for the ranks' processes in /proc")


@needs_proc
def test_without_rank_0_the_other_ends_too_and_one_process_goes_on(inputs, tmp_path):
    """Who wrote the log and the checkpoints is gone: what stands of them is gone on with."""
    run, log = tmp_path / "run", tmp_path / "log"
    flags = _flags({**inputs, **SMALL, "tokens": 64 * 400, "recording.checkpoint_every": 10, "out": run})
    assert _launched(flags, log, killed=0).wait() != 0
    assert "another rank was lost" in log.read_text()
    assert main(["train", *flags, "--resume"]) == 0
    assert [row["step"] for row in _rows(run)] == list(range(5, 401, 5))


@needs_proc
def test_a_killed_rank_ends_the_run_and_one_process_goes_on(inputs, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    flags = _flags({**inputs, **SMALL, "tokens": 64 * 400, "recording.checkpoint_every": 10, "out": run})
    assert _launched(flags, log).wait() != 0
    told = log.read_text()
    (line,) = [line for line in told.splitlines() if line.startswith("interp: ")]
    assert "another rank was lost" in line
    # What torchrun says of a failure ends with a trace of its own.
    assert "interp/cli/__init__.py" not in told
    assert "terminate called" not in told
    assert "exitcode  : 2 " in told
    assert "another rank was lost" in json.loads((run / "stopped.json").read_text())["reason"]
    assert main(["train", *flags, "--resume"]) == 0
    assert [row["step"] for row in _rows(run)] == list(range(5, 401, 5))
    assert not (run / "stopped.json").exists()


@needs_proc
@pytest.mark.slow
def test_torchrun_starts_lost_ranks_again_and_they_go_on(inputs, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    flags = _flags({**inputs, **SMALL, "tokens": 64 * 400, "recording.checkpoint_every": 10, "out": run})
    assert _launched([*flags, "--resume"], log, "--max-restarts", "1").wait() == 0
    assert [row["step"] for row in _rows(run)] == list(range(5, 401, 5))
    assert log.read_text().count("another rank was lost") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "runs/x"], "interp: rank 1: evaluate: runs in one process"),
        (["sweep", "--report", "runs/x"], "interp: rank 1: --report and --dry-run run in one process"),
    ],
)
def test_commands_that_run_alone_say_so(monkeypatch, capsys, words, told):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(told)
    assert error.count("\n") == 1
