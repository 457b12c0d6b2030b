"""Codebooks in a pretrained model: a run that was cut ends with the same bytes, and removal leaves no trace."""

import json

import pytest
import torch

from interp.codebooks import training
from interp.codebooks.config import CodebookConfig
from interp.codebooks.insertion import Insertion, new_codebooks, site_hooks
from interp.codebooks.training import train_codebooks
from interp.models import load_model
from interp.storage import sha256_of
from interp.weights import hash_weights
from tests.stories import invented_stories
from tests.texts import write_jsonl

ROWS = torch.randint(3, 500, (4, 32), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def stories_folder(data_folder):
    return data_folder / "models" / "stories260K"


def test_a_pretrained_model_is_byte_identical_after_removal(stories_folder):
    model = load_model(str(stories_folder), device="cpu")
    hashed, files = hash_weights(model.hf), {path.name: sha256_of(path) for path in stories_folder.iterdir()}
    with torch.no_grad():
        before = model.hf(ROWS).logits
        torch.manual_seed(0)
        codebooks = new_codebooks(model, site_hooks(model, ("attn", "mlp", "resid")), n_codes=30, k=3)
        with Insertion(model, codebooks):
            assert not torch.allclose(model.hf(ROWS).logits, before)
        after = model.hf(ROWS).logits
    assert torch.equal(after.view(torch.int32), before.view(torch.int32))
    assert hash_weights(model.hf) == hashed
    assert {path.name: sha256_of(path) for path in stories_folder.iterdir()} == files


class _Cut(Exception):
    """The run ends here."""


def test_a_pretrained_run_that_was_cut_ends_with_the_same_bytes(stories_folder, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "text.jsonl", invented_stories(120))
    settings = {
        "model": str(stories_folder), "dataset": str(tmp_path / "text.jsonl"), "device": "cpu", "n_codes": 20, "k": 2,
        "initial": "kmeans_scaled", "initial_tokens": 500, "tokens": 6 * 256, "evaluation_tokens": 200,
        "replace_dead_every": 2, "data": {"context_size": 64, "batch_tokens": 256, "heldout_share": 0.2},
        "recording": {"log_every": 1, "checkpoint_every": 3},
    }  # fmt: skip
    whole = train_codebooks(CodebookConfig.parse(settings | {"out": str(tmp_path / "whole")}))
    cut = CodebookConfig.parse(settings | {"out": str(tmp_path / "cut")})
    updated = training.CodebookTask.after_update

    def stop_after_four(task, report, optimiser):
        updated(task, report, optimiser)
        if int(task.n_updates) == 4:
            raise _Cut

    with monkeypatch.context() as patch:
        patch.setattr(training.CodebookTask, "after_update", stop_after_four)
        with pytest.raises(_Cut):
            train_codebooks(cut)
    assert (tmp_path / "cut" / "checkpoints" / "latest").read_text().strip() == "step_3"
    train_codebooks(cut, resume=True)
    for name in ("codebooks/codebooks.safetensors", "model/model.safetensors", "evaluation.json"):
        assert sha256_of(tmp_path / "cut" / name) == sha256_of(whole.run.path / name)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "cut")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
