"""`interp study planted-rule` and `name-pronoun`, far too short to find anything: what they write and print."""

import json

import pytest
from click.testing import CliRunner

from interp.cli import cli
from interp.steering_results import DoseResponse
from tests.browsing import Visit, launched_browser


def _run(*arguments):
    result = CliRunner().invoke(cli, ["study", *arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("planted")
    short = ["--steps", "2", "--stories", "12", "--pairs", "10", "--tokens", "1024", "--d-sae", "32", "--k", "4"]
    return out, _run("planted-rule", *short, "--controls", "3", "--out", str(out))


@pytest.fixture(scope="module")
def pronouns(tmp_path_factory):
    out = tmp_path_factory.mktemp("pronouns")
    short = ["--tokens", "1024", "--d-sae", "64", "--n-names", "4", "--controls", "3", "--sizes", "1,2"]
    return out, _run("name-pronoun", *short, "--out", str(out), "--json")


def test_the_planted_rule_is_told_of_both_models(planted):
    out, result = planted
    study = json.loads((out / "planted_rule.json").read_text())
    assert set(study["arms"]) == {"planted", "twin"}
    for arm in study["arms"].values():
        assert len(arm["probe"]) == 4
        assert len(arm["feature"]["ablated_controls"]) == 3
        assert DoseResponse.from_json(arm["feature"]["dose"]).n_prompts == 10
        assert {axis["name"] for axis in arm["patching"]["axes"]} == {"component", "place"}
    for word in ("planted", "twin", "attention 2", "resid_post 3"):
        assert word in result.output
    assert (out / "planted" / "model" / "config.json").is_file()


def test_names_and_pronouns_are_told_with_their_matched_sets(pronouns):
    out, result = pronouns
    study = json.loads((out / "name_pronoun.json").read_text())
    assert json.loads(result.stdout) == study
    train, test = (set(study["names"][side]["female"]) for side in ("train", "test"))
    assert train
    assert not train & test
    assert [found["n_features"] for found in study["ablations"]] == [1, 2]
    assert study["accuracy"]["test"] > 0.9, "the embedded model knows these names"
    assert {arm["name"] for arm in study["dose"]["arms"]} == {"matched features", "covariance-matched"}


@pytest.mark.browser
def test_their_pages_draw_themselves(planted, pronouns):
    with launched_browser() as browser:
        for path in (planted[0] / "planted_rule.html", pronouns[0] / "name_pronoun.html"):
            visit = Visit(browser, path)
            visit.page.goto(visit.address)
            visit.page.wait_for_selector(".main-svg")
            drawn = visit.page.locator(".js-plotly-plot").evaluate_all("plots => plots.map(p => p.data.length)")
            assert drawn, "no figure was drawn"
            assert min(drawn) > 0, "a figure holds nothing"
            visit.close()
