"""A whole run goes on byte for byte where it was interrupted, on a processor and on a GPU."""

import json
import math

import pytest

from interp.storage import read_tensors
from saes.train_config import TrainConfig
from saes.training import train
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
ARCHITECTURES = {
    "topk": {"k": 4},
    "batch_topk": {"k": 4},
    "matryoshka": {"k": 4, "prefixes": [8, 32]},
    "jumprelu": {},
    "gated": {},
    "standard": {},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(60))
    return {
        "model": str(folder / "model"), "dataset": str(folder / "texts.jsonl"), "hook": "blocks.1.hook_resid_post",
        "tokens": 1280, "batch_size": 64, "data": {"context_size": 16, "batch_tokens": 128},
        "shuffle": {"block_tokens": 256}, "recording": {"log_every": 4, "checkpoint_every": 12},
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_resumed_run_ends_with_the_bytes_of_one_that_was_not_interrupted(settings, tmp_path, architecture, device):
    sae = {"architecture": architecture, "d_sae": 32, **ARCHITECTURES[architecture]}
    config = TrainConfig.parse({**settings, "device": device, "sae": sae, "out": str(tmp_path / "run")})
    weights = tmp_path / "run" / "sae" / "sae_weights.safetensors"
    run = train(config)
    whole = weights.read_bytes()
    weights.unlink()
    train(config, resume_from="step_12")
    assert weights.read_bytes() == whole
    assert all(x.isfinite().all() for x in read_tensors(weights).values())
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert rows[-1]["step"] == 20
    assert all(math.isfinite(row["loss"]) for row in rows)
