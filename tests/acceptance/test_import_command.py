"""An SAE from elsewhere becomes a run folder that the other commands take."""

import json
import shutil

import pytest
import torch

import saes
from interp.cli import main
from interp.errors import StorageError
from interp.models import load_model
from saes.normalised import NormalisedSAE
from saes.opening import open_sae
from tests.golden.make import numbers, version_6, write_saelens

HOOK = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def width():
    return load_model("embedded", device="cpu").hook(HOOK).width


@pytest.fixture
def foreign(tmp_path, width):
    """What SAELens would write of a gated SAE of layer-normalised activations of the embedded model."""
    w = numbers(0, d_in=width, d_sae=32)
    names = {"hook_name": HOOK, "model_name": "embedded", "context_size": 64}
    settings = {"d_in": width, "d_sae": 32, "normalize_activations": "layer_norm"}
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_dec", "b_mag", "r_mag")} | {"b_gate": w["b_enc"] - 4}
    write_saelens(tmp_path / "theirs", version_6("gated", metadata=names, **settings), tensors)
    return tmp_path / "theirs"


def test_an_imported_sae_is_evaluated_described_and_encoded_with(tmp_path, foreign, capsys):
    out = tmp_path / "run"
    assert main(["import", str(foreign), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["imported_from"] == str(foreign)
    assert main(["evaluate", str(out), "--tokens", "2000"]) == 0
    values = json.loads((out / "evaluation.json").read_text())
    assert values["hook"] == HOOK
    assert values["data"]["context_size"] == 64
    assert 0 < values["l0"] < 32
    assert main(["features", str(out), "--tokens", "2000"]) == 0
    (tmp_path / "texts.txt").write_text("Once upon a time there was a dragon.")
    texts, codes = str(tmp_path / "texts.txt"), str(tmp_path / "codes.parquet")
    assert main(["encode", str(out), "--texts", texts, "--out", codes]) == 0
    assert main(["report", str(out)]) == 0
    assert "gated" in (out / "sae" / "cfg.json").read_text()
    theirs, ours = saes.load(foreign)[0], open_sae(out).sae
    x = torch.randn(20, theirs.d_in)
    assert isinstance(ours, NormalisedSAE)
    assert torch.equal(ours.encode(x).dense(), theirs.encode(x).dense())


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path, foreign, width, capsys, monkeypatch):
    w = numbers(0, d_in=width, d_sae=32)
    tensors = {"encoder.weight": w["W_enc"].t(), "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]}
    config = {"num_latents": 32, "k": 4, "d_in": width, "activation": "groupmax"}
    write_saelens(tmp_path / "layers.2", config, tensors, "sae")
    fresh, used = tmp_path / "run", tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    for out in (fresh, used):
        assert main(["import", str(tmp_path / "layers.2"), "--model", "embedded", "--out", str(out)]) == 2
        assert "SAELens has nothing that does it" in capsys.readouterr().err

    def full(*_):
        raise StorageError("the disk is full")

    for name in ("write_json", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(f"interp.runs.{name}", full)
            assert main(["import", str(foreign), "--out", str(used)]) == 2
    assert not fresh.exists()
    assert [path.name for path in used.iterdir()] == ["notes.txt"]
    assert main(["import", str(foreign), "--out", str(used)]) == 0
    assert main(["import", str(foreign), "--out", str(used)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (used / "sae").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"metadata": {"sae_lens_version": "6.0", "hook_name": HOOK}}, "give it with --model"),
        ({"metadata": {"sae_lens_version": "6.0", "hook_name": "blocks.99.hook_resid_post"}}, "blocks.99"),
        ({"architecture": "abstopk"}, "fire negatively"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line(tmp_path, foreign, capsys, change, match):
    config = json.loads((foreign / "cfg.json").read_text())
    (foreign / "cfg.json").write_text(json.dumps({**config, **change}))
    model = ["--model", "embedded"] if "99" in match else []
    assert main(["import", str(foreign), "--out", str(tmp_path / "run"), *model]) == 2
    told = capsys.readouterr().err.strip()
    assert match in told
    assert told.count("\n") == 0
    assert not (tmp_path / "run").exists()
    shutil.rmtree(foreign)
    assert main(["import", str(foreign), "--out", str(tmp_path / "run")]) == 2
    assert "no such folder or file" in capsys.readouterr().err
