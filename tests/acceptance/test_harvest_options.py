"""How a model is run changes when things happen, and not what comes out."""

import json
import threading
from contextlib import closing

import pytest
import torch

from interp.activations.collect import CollectConfig, collect
from interp.activations.harvest import N_AHEAD, HarvestConfig
from interp.cli import main
from interp.distributed import ALONE, Ranks
from interp.errors import ConfigError
from interp.hooks import capture
from interp.storage import read_tensors
from saes.origin import load_models, open_origin
from saes.sharded_training import SpreadFit, train_on_ranks
from saes.train_config import TrainConfig
from saes.training import Fit, train
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(120))
    return {
        "model": str(folder / "model"),
        "dataset": str(folder / "texts.jsonl"),
        "hook": HOOK,
        "device": "cpu",
        "tokens": 1280,
        "batch_size": 64,
        "sae": {"d_sae": 32, "k": 4},
        "data": {"context_size": 16, "batch_tokens": 128},
        "shuffle": {"block_tokens": 256},
        "recording": {"log_every": 4, "checkpoint_every": 7},
    }


def _config(settings, out, **more):
    return TrainConfig.parse({**settings, "out": str(out), **more})


def _weights(run):
    return read_tensors(run.path / "sae" / "sae_weights.safetensors")


@pytest.fixture(scope="module")
def plain(settings, tmp_path_factory):
    return train(_config(settings, tmp_path_factory.mktemp("runs") / "plain"))


def _differing(one, two):
    """Names of tensors that are not equal, or that one alone has."""
    return sorted(one.keys() ^ two.keys()) + [
        name for name in one.keys() & two.keys() if not one[name].equal(two[name])
    ]


@pytest.mark.parametrize(("before", "after"), [(3, 0), (0, 2)])
def test_a_run_that_was_interrupted_goes_on_with_another_prefetch_byte_for_byte(
    settings, plain, tmp_path, monkeypatch, before, after
):
    with monkeypatch.context() as patched:
        patched.setattr(Fit, "row", _interrupted_at(12))
        with pytest.raises(KeyboardInterrupt):
            train(_config(settings, tmp_path / "run", harvest={"prefetch": before}))
    assert not any(thread.name == "interp ahead" for thread in threading.enumerate())
    run = train(_config(settings, tmp_path / "run", harvest={"prefetch": after}), resume=True)
    assert _differing(_weights(run), _weights(plain)) == []


@pytest.mark.parametrize(("prefetch", "thread"), [(0, "MainThread"), (2, "interp ahead")])
def test_on_a_processor_the_model_runs_beside_the_steps_if_asked_to(settings, tmp_path, monkeypatch, prefetch, thread):
    threads = set()

    def watched(*given):
        threads.add(threading.current_thread().name)
        return capture(*given)

    monkeypatch.setattr("interp.activations.harvest.capture", watched)
    origin = open_origin(_config(settings, tmp_path, harvest={"prefetch": prefetch}))
    with closing(origin.source.iter_from({})) as chunks:
        next(chunks)
    assert threads == {thread}


def test_ranks_exchange_activations_in_the_order_of_their_steps():
    one, other = torch.device("cpu"), torch.device("cuda:0")
    asked = HarvestConfig(prefetch=3)
    assert [asked.activations_ahead(one, one, n_ranks=n) for n in (1, 2)] == [3, 0]
    # One GPU does one thing at a time.
    assert [asked.activations_ahead(other, to) for to in (other, one)] == [0, 3]
    assert [HarvestConfig().activations_ahead(one, to) for to in (one, other)] == [0, N_AHEAD]


def test_a_rank_that_is_interrupted_lets_go_of_its_thread(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(SpreadFit, "row", _interrupted_at(4))
    with pytest.raises(KeyboardInterrupt) as held:
        train_on_ranks(_config(settings, tmp_path / "run", harvest={"prefetch": 2}), ALONE)
    # Its frames, and all that they hold, are still there.
    assert held.tb is not None
    assert not any(thread.name == "interp ahead" for thread in threading.enumerate())


def _interrupted_at(step):
    def row(fit, done):
        if done.step == step:
            raise KeyboardInterrupt
        return {}

    return row


def test_metrics_say_what_waiting_for_text_took(plain):
    rows = [json.loads(line) for line in plain.metrics_path.read_text().splitlines()]
    assert all(0 <= row["seconds_text"] <= row["seconds_harvest"] + 1e-3 for row in rows)


def test_model_and_sae_have_devices_of_their_own(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked, model = [], tiny_model("llama")
    monkeypatch.setattr("saes.origin.load_model", lambda name, **how: asked.append(how["device"]) or model)
    config = _config(settings, tmp_path, model_device="cuda:1", device="cuda:0")
    load_models(config)
    load_models(config, device="cpu")
    load_models(_config(settings, tmp_path))
    assert asked == ["cuda:1", "cpu", "cpu"]


def test_one_device_named_twice_is_one_device(settings, plain, tmp_path):
    run = train(_config(settings, tmp_path / "run", model_device="cpu", harvest={"prefetch": 2}))
    assert _differing(_weights(run), _weights(plain)) == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model-device", "cuda:1"], "model_device: got 'cuda:1', but this machine or this torch has no CUDA"),
        (["--model-device", "tpu"], "model_device: got 'tpu'; expected auto, cpu or cuda"),
        (["--harvest.prefetch", "-1"], "harvest.prefetch: got '-1'"),
        (["--activations", "x", "--harvest.compile", "true"], "no model runs"),
        (["--harvest.ahead", "1"], "No such option"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
def test_what_cannot_be_is_told_in_one_line(settings, tmp_path, capsys, flags, told):
    given = ["--model", settings["model"], "--dataset", settings["dataset"], "--hook", HOOK, "--tokens", "4096"]
    assert main(["train", *given, "--out", str(tmp_path / "run"), *flags]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_told_with_those_that_are(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"model_device: got 'cuda:7', but this machine has 2 GPUs; give cuda:0 to"):
        open_origin(_config(settings, tmp_path, model_device="cuda:7"))


def test_ranks_have_one_device_each(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="model_device: got cuda:1 on 2 ranks"):
        open_origin(_config(settings, tmp_path, model_device="cuda:1"), ranks=Ranks(0, 2))
    with pytest.raises(ConfigError, match="device: got cuda:1 on 2 ranks"):
        train_on_ranks(_config(settings, tmp_path, device="cuda:1"), Ranks(0, 2))
    shared = {key: settings[key] for key in ("model", "dataset")}
    store = CollectConfig.parse({**shared, "hooks": [HOOK], "device": "cuda:1", "out": str(tmp_path / "acts")})
    with pytest.raises(ConfigError, match="device: got cuda:1 on 2 ranks"):
        collect(store, ranks=_Told(0, 2))


class _Told(Ranks):
    """Ranks of whom nothing is asked."""

    def from_first(self, work):
        return work()


def test_activations_from_disk_are_read_ahead(settings, plain, tmp_path):
    shared = {key: settings[key] for key in ("model", "dataset", "device", "data")}
    store = {"hooks": [HOOK], "tokens": 1536, "out": str(tmp_path / "acts"), "harvest": {"prefetch": 2}}
    collect(CollectConfig.parse(shared | store))
    run = train(_config(settings, tmp_path / "run", activations=str(tmp_path / "acts"), harvest={"prefetch": 2}))
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert sum(row["seconds_ahead"] for row in rows) > 0
    direct = train(_config(settings, tmp_path / "direct", activations=str(tmp_path / "acts")))
    assert _differing(_weights(run), _weights(direct)) == []
