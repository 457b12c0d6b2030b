"""What a plan says where a processor harvests beside the steps."""

import pytest
import torch

import saes.planning.placed as placed
from saes.planning.run_plan import plan
from saes.sweep_config import SweepConfig
from saes.sweep_memory import memory_parts
from saes.training import TrainConfig
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

AHEAD = {"activations ahead", "harvest beside steps"}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans of a run by prefetch and cores, with one thread of torch."""
    save_model(tiny_model("llama"), tmp_path / "model")
    write_jsonl(tmp_path / "texts.jsonl", tiny_texts(60))

    def of(prefetch, n_cores):
        monkeypatch.setattr(placed, "n_cores", lambda: n_cores)
        config = TrainConfig.parse({
            "model": str(tmp_path / "model"), "dataset": str(tmp_path / "texts.jsonl"), "device": "cpu",
            "hook": "blocks.1.hook_resid_post", "tokens": 640, "batch_size": 64, "sae": {"d_sae": 32, "k": 4},
            "data": {"context_size": 16, "batch_tokens": 128}, "harvest": {"prefetch": prefetch},
            "out": str(tmp_path / "run"),
        })  # fmt: skip
        return plan(config, calibrated=False, startup_seconds=0.0)

    return of


def test_both_are_in_memory_at_once(planned):
    plain, ahead = planned(0, 4), planned(8, 4)
    assert not AHEAD & plain.memory_by.keys()
    assert ahead.memory_by.keys() - plain.memory_by.keys() == AHEAD
    assert all(ahead.memory_by[part] > 0 for part in AHEAD)


def test_time_is_saved_only_where_there_are_cores_for_both(planned):
    plain, ahead, alone = planned(0, 4), planned(8, 4), planned(8, 1)
    assert ahead.seconds_by["harvest"] < plain.seconds_by["harvest"]
    assert alone.seconds_by["harvest"] == plain.seconds_by["harvest"]


def test_a_sweep_counts_what_is_made_ahead_for_all_its_hooks():
    hooks = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")

    def parts(prefetch):
        base = {
            "tokens": "100k",
            "sae": {"d_sae": 32},
            "data": {"batch_tokens": 1024},
            "harvest": {"prefetch": prefetch},
            "device": "cpu",
        }
        config = SweepConfig.parse({"base": base, "grid": {"hook": list(hooks)}, "out": "runs/x"})
        return memory_parts(config, dict.fromkeys(hooks, 4096), torch.device("cpu"))

    plain, ahead = parts(0), parts(8)
    assert not AHEAD & plain.keys()
    # Eight made ahead, one in the thread's hand, one in use; both hooks in float32.
    assert ahead["activations ahead"] > 10 * 1024 * 2 * 4096 * 4
    assert ahead["harvest beside steps"] > 0
