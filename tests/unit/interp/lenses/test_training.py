"""Lens runs: bit-exact resumption, what a folder holds, and what it refuses."""

import json
import shutil

import pytest

from interp.errors import ArtifactError, ConfigError
from interp.lenses.config import LensConfig
from interp.lenses.folder import LensFolder, load_lens
from interp.lenses.future import FutureLens
from interp.lenses.reading import measure_again, read_text
from interp.lenses.training import train_lens
from interp.storage import write_json
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

FUTURE = {"distances": 2, "examples": 24, "batch_size": 4, "shortest_prefix": 3, "evaluation_examples": 10}
TUNED = {"tokens": 384, "batch_size": 64, "evaluation_tokens": 100}
RECORDING = {"log_every": 2, "checkpoint_every": 3}
HOOKS = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A tiny model on disk, and text that it reads."""
    folder = tmp_path_factory.mktemp("scene")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "text.jsonl", tiny_texts(80, longest=15))
    return folder


def _config(scene, lens, **settings):
    words = " ".join(f"w{index}" for index in range(4, 20))
    values = {
        "lens": lens,
        "model": str(scene / "model"),
        "dataset": str(scene / "text.jsonl"),
        "hooks": HOOKS,
        "out": str(scene / lens),
        "data": {"context_size": 18, "heldout_share": 0.3, "overlap_documents": 0},
        "tuned": TUNED,
        "future": FUTURE | {"contexts": [words, words[1:]], "decoding": "sampled"},
        "shuffle": {"block_tokens": 128},
        "device": "cpu",
        "recording": RECORDING,
    }
    return LensConfig.parse(values | settings)


@pytest.fixture(scope="module", params=["tuned", "future"])
def run(request, scene):
    """A finished run of either lens."""
    config = _config(scene, request.param)
    return config, train_lens(config)


def test_a_run_that_was_killed_goes_on_bit_for_bit(run, scene):
    """The same folder as it was after step 3 of 6, taken up again."""
    config, folder = run
    killed = config.model_copy(update={"out": scene / f"{config.lens}_killed"})
    shutil.copytree(folder.run.path, killed.out)
    shutil.rmtree(killed.out / "checkpoints" / "step_6")
    (killed.out / "checkpoints" / "latest").write_text("step_3\n")
    for left in ("lens/lens.safetensors", "lens/lens.json", "table.json", "divergence.json"):
        (killed.out / left).unlink(missing_ok=True)
    manifest = json.loads((killed.out / "manifest.json").read_text())
    write_json(killed.out / "manifest.json", manifest | {"status": "running"})
    again = train_lens(killed, resume=True)
    assert again.weights.read_bytes() == folder.weights.read_bytes()
    states = [one.run.checkpoints / "step_6" / "state.safetensors" for one in (again, folder)]
    assert states[0].read_bytes() == states[1].read_bytes()
    assert again.divergence() is None or again.divergence().layers == folder.divergence().layers
    assert again.table() is None or again.table().rows == folder.table().rows


def test_a_finished_run_holds_its_lens_its_figures_and_a_manifest(run):
    config, folder = run
    assert folder.run.manifest().status == "finished"
    assert (folder.table() is None) == (config.lens == "tuned")
    assert (folder.divergence() is None) == (config.lens == "future")
    lens = load_lens(folder.run.path)
    assert isinstance(lens, FutureLens) == (config.lens == "future")
    assert lens.hooks == (tuple(HOOKS))
    assert train_lens(config, resume=True).run.path == folder.run.path


def test_a_run_is_not_overwritten_nor_resumed_with_other_settings(run):
    config = run[0]
    with pytest.raises(ConfigError, match="already holds a run"):
        train_lens(config)
    with pytest.raises(ConfigError, match="was started with seed = 0; got 1"):
        train_lens(config.model_copy(update={"seed": 1}), resume=True)


def test_damage_and_runs_of_another_kind_are_told(run, scene, tmp_path):
    folder = run[1]
    copy = tmp_path / "copy"
    shutil.copytree(folder.run.path, copy)
    (copy / "lens" / "lens.safetensors").write_bytes(folder.weights.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match="content differs from the hash"):
        load_lens(copy)
    (copy / "lens" / "lens.json").unlink()
    with pytest.raises(ArtifactError, match="not trained to the end"):
        load_lens(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    write_json(copy / "manifest.json", manifest | {"kind": "sae"})
    with pytest.raises(ArtifactError, match="holds a run of kind 'sae'"):
        LensFolder.open(copy)


def test_a_lens_is_not_applied_to_another_model(run, tmp_path):
    save_model(tiny_model("llama", seed=5), tmp_path / "other")
    with pytest.raises(ArtifactError, match="was trained on a model of hash"):
        load_lens(run[1].run.path, model_name=str(tmp_path / "other"))


def test_a_dictionary_of_another_model_is_refused(run):
    folder = run[1]
    with pytest.raises(ArtifactError, match=r"--sae: was trained on a model of hash abcdef012345…; the lens reads"):
        read_text(str(folder.run.path), "w5 w6", trained_on="abcdef0123456789")
    with pytest.raises(ArtifactError, match="give an SAE of the same model"):
        measure_again(str(folder.run.path), trained_on="abcdef0123456789")


def test_a_fixed_prompt_alone_has_nothing_to_train_but_is_measured(scene, tmp_path):
    config = _config(scene, "future", out=tmp_path / "fixed", recording=RECORDING)
    future = config.future.model_copy(update={"methods": ("fixed_prompt",), "examples": 8})
    table = train_lens(config.model_copy(update={"future": future})).table()
    assert table.row("fixed prompt", "fed", 1, HOOKS[0]).n_examples > 0
