import gzip
import json
from pathlib import Path

import pytest
import torch

import interp.fitting as fitting
import interp.pretraining.training as training
from interp.errors import ConfigError, DataError
from interp.loop import StepDone
from interp.models import load_model
from interp.pretraining.training import PretrainFolder, pretrain
from interp.runs import RunFolder
from tests.stories import tiny_pretraining


class Killed(Exception):
    """Stands for whatever ends a process."""


def kill_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    fit = fitting.fit

    def interrupted(*arguments: object, **settings: object) -> object:
        for done in fit(*arguments, **settings):
            yield done
            if isinstance(done, StepDone) and done.step == step:
                raise Killed

    monkeypatch.setattr(fitting, "fit", interrupted)


def weights(run: RunFolder) -> bytes:
    return (PretrainFolder(run).model / "model.safetensors").read_bytes()


def looks(run: RunFolder) -> list[tuple[float, ...]]:
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return [(row["step"], row["loss"], row.get("heldout_bits_per_byte", 0.0)) for row in rows]


def test_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = pretrain(tiny_pretraining(tmp_path, out=str(tmp_path / "whole")))
    config = tiny_pretraining(tmp_path, out=str(tmp_path / "broken"))
    with monkeypatch.context() as patch:
        kill_after(patch, step=8)
        with pytest.raises(Killed):
            pretrain(config)
    resumed = pretrain(config, resume=True)
    assert weights(resumed) == weights(whole)
    assert looks(resumed) == looks(whole)


def test_it_learns_more_than_token_frequencies(tmp_path: Path):
    run = pretrain(tiny_pretraining(tmp_path, tokens=120 * 256))
    evaluation = json.loads(run.evaluation_path.read_text())
    assert 0 < evaluation["heldout"]["model"] < evaluation["heldout"]["unigram"]
    assert looks(run)[-1][2] < looks(run)[1][2]


def test_length_may_change_before_the_decay_and_not_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flat = {"schedule": {"lr": 0.01, "warmup_share": 0.0, "decay_share": 0.25}}
    direct = pretrain(tiny_pretraining(tmp_path, out=str(tmp_path / "direct"), tokens=10 * 256, **flat))
    config = tiny_pretraining(tmp_path, out=str(tmp_path / "cut"), **flat)
    with monkeypatch.context() as patch:
        kill_after(patch, step=10)
        with pytest.raises(Killed):
            pretrain(config)
    with pytest.raises(ConfigError, match="tokens"):
        pretrain(config.model_copy(update={"tokens": 9 * 256}), resume=True)
    cut = pretrain(config.model_copy(update={"tokens": 10 * 256}), resume=True)
    assert weights(cut) == weights(direct)
    assert "tokens: 2560" in cut.config_path.read_text()
    assert cut.manifest().results["length_changed"] == {"from": 3072, "to": 2560, "at_step": 9}
    assert "begun with 3,072 tokens" in PretrainFolder(cut).card.read_text()


def test_another_seed_cannot_take_over_a_run(tmp_path: Path):
    config = tiny_pretraining(tmp_path)
    pretrain(config)
    with pytest.raises(ConfigError, match="seed"):
        pretrain(config.model_copy(update={"seed": 1}), resume=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        pretrain(config)


def test_folder_holds_model_scores_corpus_and_card(tmp_path: Path):
    run = pretrain(tiny_pretraining(tmp_path, corpus_documents=70))
    folder = PretrainFolder(run)
    model = load_model(str(folder.model))
    assert model.tokenizer.bos_token_id == model.tokenizer.eos_token_id == model.hf.generation_config.eos_token_id
    assert (model.context_size, model.n_layers, model.d_model) == (32, 2, 16)
    evaluation = json.loads(run.evaluation_path.read_text())
    assert set(evaluation["heldout"]) == {"model", "unigram", "bigram", "kneser_ney_5"}
    with gzip.open(folder.corpus, "rt", encoding="utf-8") as file:
        written = [json.loads(line)["text"] for line in file]
    assert run.manifest().results["corpus"]["n_documents"] == len(written) > 0
    card = folder.card.read_text()
    assert f"{evaluation['heldout']['model']:.4f}" in card
    assert evaluation["samples"][0].split()[0] in card
    assert run.manifest().status == "finished"


def test_model_on_disk_is_the_trained_one_rounded(tmp_path: Path):
    run = pretrain(tiny_pretraining(tmp_path))
    state = training.load_checkpoint(training.latest_checkpoint(run.checkpoints))
    on_disk = load_model(str(PretrainFolder(run).model)).hf.model.state_dict()
    for name, weight in on_disk.items():
        torch.testing.assert_close(weight, state.tensors[f"body.{name}"].half().float(), rtol=0, atol=0)


def test_changed_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny_pretraining(tmp_path)
    with monkeypatch.context() as patch:
        kill_after(patch, step=4)
        with pytest.raises(Killed):
            pretrain(config)
    with (tmp_path / "stories.jsonl").open("a") as file:
        file.write('{"text": "One more."}\n')
    with pytest.raises(training.ArtifactError, match="text has changed"):
        pretrain(config, resume=True)


def test_unset_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOWHERE_AT_ALL", raising=False)
    with pytest.raises(DataError, match=r"\$NOWHERE_AT_ALL"):
        pretrain(tiny_pretraining(tmp_path, dataset="$NOWHERE_AT_ALL/stories.jsonl"))
