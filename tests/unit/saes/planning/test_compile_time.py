"""Compiling is a part of what a run takes to start."""

from types import SimpleNamespace

import pytest

import saes.planning.calibration as calibration
from interp.activations.harvest import plain_reader
from saes.planning.run_plan import counts_of, open_source, plan
from saes.training import TrainConfig
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

COMPILING, BATCH = 40.0, 0.5


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A run whose harvesting takes what the test says, and whose other work no time at all."""
    model = tiny_model("llama")
    save_model(model, tmp_path / "model")
    write_jsonl(tmp_path / "texts.jsonl", tiny_texts(60))
    now = [0.0]

    def reader(model, hooks, how):
        plain, compiled = plain_reader(model, hooks), []

        def read(*given):
            now[0] += BATCH if compiled or not how.compile else COMPILING + BATCH
            compiled.append(True)
            return plain(*given)

        return read

    monkeypatch.setattr(calibration, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(calibration, "reader_of", reader)
    return TrainConfig.parse({
        "model": str(tmp_path / "model"), "dataset": str(tmp_path / "texts.jsonl"), "device": "cpu",
        "hook": "blocks.1.hook_resid_post", "tokens": 640, "batch_size": 64, "sae": {"d_sae": 32, "k": 4},
        "data": {"context_size": 16, "batch_tokens": 128}, "harvest": {"compile": True}, "out": str(tmp_path / "run"),
    })  # fmt: skip


def test_compiling_is_told_apart_from_harvesting(config):
    source = open_source(config)
    found = calibration.calibrate(counts_of(config, source), source, source[0].device)
    plain = config.model_copy(update={"harvest": config.harvest.model_copy(update={"compile": False})})
    without = calibration.calibrate(counts_of(plain, source), source, source[0].device)
    assert without.compile == 0
    # All but the time of one batch, at the median time of a token.
    assert found.compile == pytest.approx(COMPILING, abs=BATCH)
    assert found.per_harvested_token == pytest.approx(without.per_harvested_token)


def test_a_plan_counts_it_into_the_start(config):
    assert plan(config, startup_seconds=0.0).seconds_by["start and exit"] >= COMPILING - BATCH
