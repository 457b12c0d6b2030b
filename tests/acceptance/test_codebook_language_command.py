"""`interp study codebook-language` on the embedded model, far too short to find anything: files, page, going on."""

import json
import shutil

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from interp.codebooks.config import CodebookConfig
from interp.codebooks.language_results import CodebookLanguage
from interp.runs import RunFolder
from interp.storage import sha256_of
from interp.studies.codebook_language import CodebookLanguageConfig
from interp.studies.study_folder import training_seconds
from tests.browsing import Visit, launched_browser

SHORT = ["--size", "tiny", "--k", "2", "--tokens", "1024"]


def _run(out, *more, concepts="she"):
    short = [*SHORT, "--concepts", concepts, "--out", str(out), *more]
    result = CliRunner().invoke(cli, ["study", "codebook-language", *short, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _settings(out):
    return CodebookLanguageConfig.load(out / "study.yaml", {})


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    out = tmp_path_factory.mktemp("language")
    return out, _run(out)


def test_models_codes_and_steering_are_told(ran):
    out, held = ran
    loaded = CodebookLanguage.load(out / "codebook_language.json")
    assert json.loads(json.dumps(loaded.to_json())) == held
    assert [arm["name"] for arm in held["arms"]] == ["base model", "finetuned without codebooks", "attn, k=2"]
    base, plain, codes = (arm["scores"]["loss_nats"] for arm in held["arms"])
    assert abs(base - plain) < abs(base - codes)
    (sample,) = held["samples"]
    assert len(sample["codes"]) == len(sample["neurons"]) == 30
    (word,) = held["steerings"]
    assert len(word["steering"]["controls"]) == 3
    assert all(control["toward"] > 0 for control in word["steering"]["controls"])
    assert 0 < word["steering"]["p_toward"] <= 1


def test_the_same_command_goes_on_with_what_is_there(ran):
    out, held = ran
    kept = {path: sha256_of(path) for path in out.rglob("*.safetensors")}
    # As if it had been interrupted before the word was steered.
    for path in (out / "steering").iterdir():
        path.unlink()
    again = _run(out)
    assert again["arms"] == held["arms"]
    assert again["steerings"] == held["steerings"]
    assert {path: sha256_of(path) for path in out.rglob("*.safetensors")} == kept


def test_other_settings_in_the_same_folder_are_refused(ran, capsys):
    out, _ = ran
    assert main(["study", "codebook-language", *SHORT, "--lr", "0.5", "--out", str(out)]) == 2
    assert "was begun with lr = 0.001; got 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(("of", "says"), [("data", "data set"), ("model", "model")])
@pytest.mark.parametrize("arm", ["plain", "attn_k2_seed0"])
def test_an_arm_of_another_text_or_model_under_the_same_name_is_refused(ran, tmp_path, capsys, arm, of, says):
    out = shutil.copytree(ran[0], tmp_path / "out")
    path = RunFolder(out / arm).manifest_path
    manifest = json.loads(path.read_text())
    manifest[of]["content_hash"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert main(["study", "codebook-language", *SHORT, "--concepts", "she", "--out", str(out)]) == 2
    assert f"{out / arm}: the {says}'s content has changed since the run was started" in capsys.readouterr().err


def test_looking_at_an_arm_anew_changes_nothing_of_the_study(ran, tmp_path):
    out, held = ran
    text = tmp_path / "more.jsonl"
    text.write_text("".join(f'{{"text": "One day a dog met {name} and they ran home."}}\n' for name in range(200)))
    looked = ["inspect", str(out / "attn_k2_seed0"), "--tokens", "700", "--dataset", str(text), "--seed", "3"]
    assert CliRunner().invoke(cli, ["codebook", *looked]).exit_code == 0
    again = _run(out)
    assert [again[name] for name in ("arms", "samples", "steerings")] == [
        held[name] for name in ("arms", "samples", "steerings")
    ]


def test_seconds_are_those_of_training_however_often_it_was_gone_on_with(ran):
    out, held = ran
    seconds = [training_seconds(RunFolder(out / name)) for name in ("plain", "attn_k2_seed0")]
    assert [arm["seconds"] for arm in held["arms"]] == [0.0, *seconds]
    assert min(seconds) > 0


def test_other_words_go_on_with_the_arms_and_one_without_codes_is_told(ran, tmp_path, capsys):
    out, held = ran
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    again = _run(moved, "--device", "cpu", "--steer-k", "2", concepts="she,xylophone")
    assert [again[name] for name in ("arms", "samples", "steerings")] == [
        held[name] for name in ("arms", "samples", "steerings")
    ]
    (word,) = again["without_codes"]
    assert word == {"concept": "xylophone", "arm": "attn, k=2", "n_sites": 0, "base_rate": 0.0}
    assert "no code found" in (moved / "codebook_language.html").read_text()
    kept = _settings(moved)
    assert (kept.concepts, kept.device, kept.steer_k) == (("she", "xylophone"), "cpu", 2)
    assert kept.out == moved
    (steered,) = (moved / "steering").iterdir()
    steered.write_text(steered.read_text()[:90])
    asked = ["study", "codebook-language", *SHORT, "--concepts", "she", "--out", str(moved)]
    assert main(asked) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f"interp: {steered}: not valid JSON")
    # Without new results the settings are those of the old ones.
    assert _settings(moved) == kept


def test_of_a_further_seed_figures_are_told_and_nothing_is_shown(ran, tmp_path):
    out, held = shutil.copytree(ran[0], tmp_path / "out"), ran[1]
    # As if two seeds had been asked for, and the second had learned what the first did.
    (out / "study.yaml").write_text(_settings(out).model_copy(update={"seeds": 2}).to_yaml())
    further = RunFolder(shutil.copytree(out / "attn_k2_seed0", out / "attn_k2_seed1"))
    further.config_path.write_text(further.config(CodebookConfig).model_copy(update={"seed": 1}).to_yaml())
    again = _run(out, "--seeds", "2")
    assert again["arms"] == [*held["arms"], held["arms"][-1] | {"seed": 1}]
    assert (again["samples"], again["steerings"]) == (held["samples"], held["steerings"])
    assert [path.name for path in (out / "inspected").iterdir()] == ["attn_k2_seed0"]


def test_a_prompt_without_room_behind_it_is_refused_before_anything_is_trained(tmp_path, capsys):
    asked = ["study", "codebook-language", *SHORT, "--prompt", "once " * 253, "--out", str(tmp_path / "out")]
    assert main(asked) == 2
    assert "a prompt of 256 tokens, which fills the context; shorten it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["study.yaml"]


@pytest.mark.browser
def test_the_page_draws_itself(ran):
    out, _ = ran
    with launched_browser() as browser:
        visit = Visit(browser, out / "codebook_language.html")
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".main-svg")
        assert "finetuned without codebooks" in visit.page.locator("#arms").inner_text()
        assert visit.page.locator("#contexts-attnk2 .context").count() > 10
        assert visit.complaints == []
        visit.close()
