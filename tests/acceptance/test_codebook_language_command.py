"""`interp study codebook-language` on the embedded model, far too short to find anything: files, page, going on."""

import json

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from interp.codebooks.language_results import CodebookLanguage
from interp.storage import sha256_of
from tests.browsing import Visit, launched_browser


def _run(out):
    short = ["--size", "tiny", "--k", "2", "--tokens", "1024", "--concepts", "she", "--out", str(out)]
    result = CliRunner().invoke(cli, ["study", "codebook-language", *short, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


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
    (out / "steering" / "she.json").unlink()
    again = _run(out)
    assert again["arms"] == held["arms"]
    assert again["steerings"] == held["steerings"]
    assert {path: sha256_of(path) for path in out.rglob("*.safetensors")} == kept


def test_other_settings_in_the_same_folder_are_refused(ran, capsys):
    out, _ = ran
    assert main(["study", "codebook-language", "--size", "tiny", "--lr", "0.5", "--out", str(out)]) == 2
    assert "begun with other settings" in capsys.readouterr().err


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
