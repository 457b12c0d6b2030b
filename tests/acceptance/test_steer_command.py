"""`interp steer` on a small SAE and on a model alone: table, files, page in a browser, errors in one line."""

import json

import pytest
import torch
from click.testing import CliRunner

from interp.causal_sweep import CausalSweep
from interp.cli import cli, main
from interp.directions import Direction
from interp.steering_results import DoseResponse
from tests.browsing import Visit, launched_browser

HOOK = "blocks.0.hook_resid_post"
QUICK = ["--controls", "3", "--texts", "1", "--strengths", "-1,0,1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steer")
    flags = ["--hook", HOOK, "--tokens", "2048", "--batch-size", "512", "--d-sae", "32", "--k", "4"]
    done = CliRunner().invoke(cli, ["train", *flags, "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    (folder / "girls.txt").write_text("Lily was sad because\nSue was sad because\n")
    (folder / "boys.txt").write_text("Tim was sad because\nTom was sad because\n")
    rows = [{"text": "Lily ran because", "answer": " she", "foil": " he", "cluster": "one"}] * 2
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def steered(folder):
    arguments = [str(folder / "run"), "--feature", "3", *QUICK, "--out", str(folder / "out")]
    result = CliRunner().invoke(cli, ["steer", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_feature_is_steered_beside_both_kinds_of_controls(folder, steered):
    held = DoseResponse.load(folder / "out" / "steering.json")
    assert held.to_json() == steered
    assert [arm.name for arm in held.arms] == ["covariance-matched", "random decoder rows"]
    assert all(arm.effects.shape == (3, 3) for arm in held.arms)
    assert held.effect.value[1] == 0
    assert held.side_effects.kl.value[1] == 0
    assert held.side_effects.kl.value[2] > 0
    assert [text.strength for text in held.texts] == [-1.0, 0.0, 1.0]
    assert held.provenance["content_hash"]


@pytest.mark.browser
def test_the_page_draws_itself(folder, steered):
    with launched_browser() as browser:
        visit = Visit(browser, folder / "out" / "steering.html")
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".main-svg")
        assert visit.page.locator("table").count() >= 2
        assert "feature 3" in visit.page.locator("header").inner_text()
        visit.close()


def test_a_mean_difference_is_judged_by_prompts(folder):
    sides = ["--toward", str(folder / "boys.txt"), "--away", str(folder / "girls.txt")]
    judged = ["--prompts", str(folder / "girls.txt"), "--answer", " he", "--foil", " she"]
    result = CliRunner().invoke(cli, ["steer", str(folder / "run"), *sides, *judged, *QUICK])
    assert result.exit_code == 0, result.output
    assert "mean difference" in result.output
    assert "logit difference" in result.output


def test_a_direction_file_needs_no_run(folder):
    path = folder / "direction.json"
    Direction(HOOK, torch.randn(192, generator=torch.Generator().manual_seed(0)), "mine").save(path)
    arguments = ["--model", "embedded", "--direction", str(path), "--prompts", str(folder / "prompts.jsonl")]
    result = CliRunner().invoke(cli, ["steer", *arguments, *QUICK, "--raw", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["direction"], found["n_clusters"], len(found["arms"])) == ("mine", 1, 1)
    assert found["norm"] == pytest.approx(float(torch.randn(192, generator=torch.Generator().manual_seed(0)).norm()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["RUN/run"], "give one of --feature N, --direction FILE"),
        (["RUN/run", "--feature", "3", "--direction", "x.json"], "got 2 directions"),
        (["RUN/run", "--feature", "99"], "got feature 99"),
        (["--feature", "3"], "got neither RUN nor --model"),
        (["--model", "embedded", "--feature", "3"], "give the folder of the SAE"),
        (["RUN/run", "--toward", "RUN/boys.txt"], "give both --toward and --away"),
        (["RUN/run", "--feature", "3", "--prompts", "RUN/boys.txt"], "without answer or foil"),
        (["RUN/run", "--feature", "3", "--answer", " he"], "without --prompts"),
        (["RUN/run", "--feature", "3", "--strengths", "1"], "at least two"),
    ],
)
def test_what_cannot_be_steered_is_told_in_one_line(folder, arguments, says, capsys):
    assert main(["steer", *(argument.replace("RUN", str(folder)) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error


def test_prompts_without_an_answer_of_their_own_get_the_one_that_is_given(folder):
    words = ["causal-sweep", str(folder / "run"), "--features", "3", "--n-values", "2", "--json"]
    (folder / "bare.jsonl").write_text(json.dumps({"text": "Lily ran because"}) + "\n")
    (folder / "bare.txt").write_text("Lily ran because\n")
    (folder / "told.jsonl").write_text(json.dumps({"text": "Lily ran because", "answer": " she", "foil": " he"}) + "\n")
    found = []
    for file, more in (("bare.jsonl", True), ("bare.txt", True), ("told.jsonl", False)):
        flags = ["--answer", " she", "--foil", " he"] if more else []
        done = CliRunner().invoke(cli, [*words, "--prompts", str(folder / file), *flags])
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout)["slope"])
    assert found[0] == found[1] == found[2]


@pytest.mark.browser
def test_features_are_swept_far_beyond_what_occurs(folder):
    out = folder / "swept"
    words = ["causal-sweep", str(folder / "run"), "--features", "3,5", "--n-values", "4", "--out", str(out)]
    prompts = ["--prompts", str(folder / "prompts.jsonl")]
    result = CliRunner().invoke(cli, [*words, *prompts, "--json"])
    assert result.exit_code == 0, result.output
    sweep = CausalSweep.load(out / "sweep.json")
    assert sweep.to_json() == json.loads(result.stdout)
    assert sweep.codes == ("feature 3", "feature 5")
    assert sweep.ate.value.shape == (2, 4, 2)
    assert abs(sweep.ate.value[:, :, 0]).min(1).max() > 0
    with launched_browser() as browser:
        visit = Visit(browser, out / "sweep.html")
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".main-svg")
        assert "feature 3" in visit.page.inner_text("body")
        visit.close()
