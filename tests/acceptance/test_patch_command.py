"""`interp patch` and `interp ablate` from files to figures."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from interp.cli import cli, main
from interp.directions import Direction
from interp.effects import EffectGrid
from interp.hooks import capture
from interp.models import load_model
from interp.prompts import encode_prompts

PAIRS = [
    {"clean": "Lily was sad because", "corrupt": "Tom was sad because", "answer": " she", "foil": " he"},
    {"clean": "Mom was happy because", "corrupt": "Dad was happy because", "answer": " she", "foil": " he"},
]
TEXTS = [{"text": "Lily had a red ball"}, {"text": "Tom saw the cat. The cat ran"}]


def written(path: Path, records: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return str(path)


def ran(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_pairs_become_grids_and_a_page(tmp_path: Path) -> None:
    pairs = written(tmp_path / "pairs.jsonl", PAIRS)
    out = tmp_path / "out"
    told = ran("patch", pairs, "--direction", "both", "--components", "residual,head", "--out", str(out), "--json",
               "--device", "cpu")  # fmt: skip
    held = json.loads(told)["grids"]
    assert list(held) == [f"{way}: {what}" for way in ("denoising", "noising") for what in ("residual", "heads")]
    assert json.loads((out / "effects.json").read_text())["grids"] == held
    grid = EffectGrid.from_json(held["denoising: residual"])
    assert [axis.name for axis in grid.axes] == ["layer", "position"]
    assert grid.reference["clean"] > 0 > grid.reference["corrupt"]
    # Before the first block all that differs is the name, which is behind the beginning.
    assert grid.effect[0].max() == pytest.approx(grid.effect[0].sum(), abs=1e-4)
    page = (out / "page.html").read_text()
    assert "denoising: heads" in page
    assert "Lily was sad because" in page


def test_one_pair_on_the_command_line_is_a_table() -> None:
    told = ran("patch", "--clean", "Lily was sad because", "--corrupt", "Tom was sad because", "--answer", " she",
               "--foil", " he", "--components", "mlp", "--layers", "0,1", "--device", "cpu")  # fmt: skip
    assert "activation patching, denoising" in told
    assert "one cluster" in told


@pytest.mark.parametrize("how", ["zero", "position-mean"])
def test_texts_are_ablated(tmp_path: Path, how: str) -> None:
    texts = written(tmp_path / "texts.jsonl", TEXTS)
    told = ran("ablate", texts, "--how", how, "--components", "mlp", "--outcome", "cross-entropy", "--json",
               "--device", "cpu")  # fmt: skip
    grid = EffectGrid.from_json(json.loads(told)["grids"]["mlp"])
    assert grid.effect.shape == (4,)
    assert grid.outcome == "change of the cross-entropy"
    assert grid.effect.max() > 0
    assert grid.interval is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["patch"], "expected a file of pairs"),
        (["patch", "--clean", "a", "--corrupt", "b"], "--answer: missing"),
        (["patch", "--features", "3"], "no SAE that they are of"),
        (["patch", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["patch", "--clean", "Lily", "--corrupt", "Tom and Sue", "--answer", " she", "--foil", " he"], "pair 0"),
        (["patch", "--components", "brain"], "got 'brain'"),
        (["patch", "--clean", "", "--corrupt", "", "--answer", " she", "--no-bos"], "prompt 0 has no token"),
        (["ablate", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["ablate", "nowhere.jsonl", "--layers", "one"], "--layers: got 'one'"),
    ],
)
def test_what_a_user_can_mend_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_no_component_or_a_file_for_a_folder_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, texts = written(tmp_path / "pairs.jsonl", PAIRS), written(tmp_path / "texts.jsonl", TEXTS)
    for words in (["patch", pairs], ["ablate", texts]):
        assert main([*words, "--components", "", "--out", str(tmp_path / "none"), "--device", "cpu"]) == 2
        assert "--components: got none" in capsys.readouterr().err
        assert not (tmp_path / "none").exists()
        assert main([*words, "--components", "mlp", "--out", pairs, "--device", "cpu"]) == 2
        told = capsys.readouterr().err
        assert "a file stands where a folder is needed" in told
        assert told.count("\n") == 1


def test_a_layer_named_twice_is_swept_once(tmp_path: Path) -> None:
    pairs = written(tmp_path / "pairs.jsonl", PAIRS)
    told = ran("patch", pairs, "--components", "mlp", "--layers", "1,2,1", "--json", "--device", "cpu")
    assert EffectGrid.from_json(json.loads(told)["grids"]["denoising: mlp"]).axes[0].labels == ("1", "2")


def test_records_that_lack_a_field_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lacking = [PAIRS[0], {name: text for name, text in PAIRS[1].items() if name != "foil"}]
    assert main(["patch", written(tmp_path / "pairs.jsonl", lacking), "--device", "cpu"]) == 2
    assert "line 2: expected text under 'foil'" in capsys.readouterr().err


def test_paths_lead_from_every_sender_through_each_receiver(tmp_path: Path) -> None:
    pairs = written(tmp_path / "pairs.jsonl", PAIRS)
    told = ran(
        "patch", pairs, "--through", "output,blocks.1.attn.hook_v.2", "--layers", "0", "--json", "--device", "cpu"
    )
    grid = EffectGrid.from_json(json.loads(told)["grids"]["denoising: paths"])
    assert [axis.name for axis in grid.axes] == ["sender", "receiver"]
    receivers = next(axis for axis in grid.axes if axis.name == "receiver")
    assert receivers.labels == ("output", "blocks.1.attn.hook_v.2")
    assert grid.effect.shape[0] == 2 + 6
    assert grid.effect.any(axis=0).all()


def test_a_direction_that_is_not_there_changes_nothing_and_one_that_is_does(tmp_path: Path) -> None:
    model = load_model("embedded", device="cpu")
    texts, hook = written(tmp_path / "texts.jsonl", TEXTS), "blocks.1.hook_resid_post"
    prompts = encode_prompts(model, [record["text"] for record in TEXTS])
    acts = capture(model, prompts.token_ids, [hook])[hook][prompts.real]
    # Orthogonal to everything that stands there: its coordinate is zero already.
    absent = torch.linalg.svd(acts.double(), full_matrices=True).Vh[-1].float()
    effects = {}
    for name, vector in (("absent", absent), ("mean", acts.mean(0))):
        Direction(hook, vector, name).save(tmp_path / f"{name}.json")
        told = ran("ablate", texts, "--direction", str(tmp_path / f"{name}.json"), "--json", "--device", "cpu")
        effects[name] = EffectGrid.from_json(json.loads(told)["grids"][name])
    assert effects["mean"].method == "direction projected out at every token, BOS too"
    assert abs(effects["absent"].effect.item()) < 1e-5
    assert effects["mean"].effect.item() > 0.01


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["patch", "PAIRS", "--through", "output", "--components", "mlp"], "--components: got it with --through"),
        (["patch", "PAIRS", "--through", "blocks.1.attn.hook_v.99"], "got head 99"),
        (["patch", "PAIRS", "--through", "blocks.1.nothing"], "has no hook"),
        (["patch", "PAIRS", "--through", "output", "--n-features", "3"], "--n-features: got it with --through"),
        (["patch", "PAIRS", "--features", "1", "--n-features", "3"], "--n-features: got it with --features"),
        (["ablate", "TEXTS", "--features", "1", "--n-features", "3"], "--n-features: got it with --features"),
        (["ablate", "TEXTS", "--direction", "DIRECTION", "--n-features", "3"], "--n-features: got it with --direction"),
        (["causal-sweep", "RUN", "--features", "1", "--n-features", "3"], "--n-features: got it with --features"),
        (["ablate", "TEXTS", "--value", "2"], "--value: got it with no --direction"),
        (["ablate", "TEXTS", "--direction", "DIRECTION", "--how", "zero"], "--how: got it with --direction"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    Direction("blocks.1.hook_resid_post", torch.ones(3), "short").save(tmp_path / "direction.json")
    places = {
        "PAIRS": written(tmp_path / "pairs.jsonl", PAIRS),
        "TEXTS": written(tmp_path / "texts.jsonl", TEXTS),
        "DIRECTION": str(tmp_path / "direction.json"),
    }
    assert main([places.get(word, word) for word in words]) == 2
    assert told in capsys.readouterr().err
