"""`interp lens`: train, apply and report on a tiny model, and its page in a real browser."""

import json

import pytest

from interp.cli import main
from tests.browsing import Visit, expect
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

WORDS = " ".join(f"w{index}" for index in range(4, 20))
TEXT = "w7 w9 w30 w7 w12"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tuned and a Future Lens of a tiny model, trained by the command, and an encoder beside them."""
    folder = tmp_path_factory.mktemp("lens")
    for name, kind in (("model", "gpt2"), ("encoder", "bert")):
        save_model(tiny_model(kind), folder / name)
    data = write_jsonl(folder / "text.jsonl", tiny_texts(60, longest=15))
    shared = ["--model", str(folder / "model"), "--dataset", str(data), "--context-size", "18", "--device", "cpu"]
    shared += ["--data.heldout-share", "0.3", "--data.overlap-documents", "0"]
    shared += ["--hooks", "blocks.0.hook_resid_post,blocks.2.hook_resid_post"]
    tuned = ["--tuned.tokens", "256", "--tuned.batch-size", "64", "--shuffle.block-tokens", "64"]
    future = ["--future.distances", "2", "--future.examples", "16", "--future.batch-size", "8"]
    future += ["--future.shortest-prefix", "3", "--future.evaluation-examples", "8", "--future.contexts", WORDS]
    for lens, settings in (("tuned", tuned), ("future", future)):
        assert main(["lens", "train", "--lens", lens, *shared, *settings, "--out", str(folder / lens)]) == 0
    return folder


def _json(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_training_leaves_a_lens_and_its_figures(runs):
    for lens, result in (("tuned", "divergence.json"), ("future", "table.json")):
        names = {path.name for path in (runs / lens).iterdir()}
        assert {"config.yaml", "manifest.json", "metrics.jsonl", "lens", result} <= names


def test_training_again_says_what_was_measured(runs, capsys):
    """A finished run is not trained again: its figures are printed."""
    held = json.loads((runs / "tuned" / "divergence.json").read_text())
    found = _json(capsys, "lens", "train", str(runs / "tuned" / "config.yaml"), "--resume")
    assert found["divergence"] == held
    assert found["table"] is None


def test_a_text_is_read_by_every_lens(runs, capsys):
    logit = _json(capsys, "lens", "apply", str(runs / "model"), "--text", TEXT)
    tuned = _json(capsys, "lens", "apply", str(runs / "tuned"), "--text", TEXT)
    future = _json(capsys, "lens", "apply", str(runs / "future"), "--text", TEXT, "--method", "learned_prompt")
    assert [one["method"] for one in (logit, tuned, future)] == ["logit lens", "tuned lens", "learned prompt"]
    # The last layer of either is the model itself.
    assert tuned["top"][-1] == logit["top"][-1]
    assert len(future["top"][0][0]) == 2
    assert json.loads((runs / "future" / "grid.json").read_text()) == future


def test_a_lens_is_measured_again_beside_another(runs, capsys):
    measure = ["--measure", "--tuned", str(runs / "tuned"), "--out", str(runs / "both.json")]
    found = _json(capsys, "lens", "apply", str(runs / "future"), *measure)
    held = json.loads((runs / "future" / "table.json").read_text())
    assert [row for row in found["rows"] if row["arm"] != "tuned lens"] == held["rows"]
    assert sum(row["arm"] == "tuned lens" for row in found["rows"]) == 2
    assert main(["lens", "report", str(runs / "future"), "--table", str(runs / "both.json")]) == 0
    assert '"arm":"tuned lens"' in (runs / "future" / "report.html").read_text(encoding="utf-8")
    facts = {"model": found["provenance"]["model"], "reconstructed": ["blocks.2.hook_resid_post"]}
    (runs / "both.json").write_text(json.dumps(found | {"provenance": facts}))
    assert main(["lens", "report", str(runs / "future"), "--table", str(runs / "both.json")]) == 0
    assert '"reconstructed":["block 2"]' in (runs / "future" / "report.html").read_text(encoding="utf-8")
    (runs / "both.json").write_text(json.dumps(found | {"provenance": {"model": {"name": "else"}}}))
    capsys.readouterr()
    assert main(["lens", "report", str(runs / "future"), "--table", str(runs / "both.json")]) == 2
    assert "was measured on model else" in capsys.readouterr().err


def test_results_are_written_into_folders_that_are_made(runs, capsys):
    out, page = runs / "new" / "grid.json", runs / "newer" / "lens.html"
    assert main(["lens", "apply", str(runs / "model"), "--text", TEXT, "--out", str(out)]) == 0
    assert main(["lens", "report", str(runs / "tuned"), "--text", TEXT, "--out", str(page)]) == 0
    assert json.loads(out.read_text())["kind"] == "lens_grid"
    assert page.exists()


def test_tables_are_printed_for_people(runs, capsys):
    assert main(["lens", "apply", str(runs / "future"), "--text", TEXT]) == 0
    assert main(["lens", "train", str(runs / "future" / "config.yaml"), "--resume"]) == 0
    out = capsys.readouterr().out
    assert "linear hidden: likeliest next token" in out
    assert "N = 1, fed (greedy continuations" in out
    assert "learned prompt, no transplant" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["apply", "future"], "got both or neither of --text and --measure"),
        (["apply", "tuned", "--text", "w5 " * 40], "expected 1 to 24, BOS included"),
        (["apply", "tuned", "--text", ""], "got no token; give some text"),
        (["apply", "future", "--measure", "--tuned", "future"], "holds a Future Lens; give a run with lens: tuned"),
        (["apply", "tuned", "--measure", "--tuned", "tuned"], "a tuned lens itself; leave it out"),
        (["apply", "future", "--measure", "--method", "fixed_prompt"], "got --method beside --measure"),
        (["apply", "future", "--text", TEXT, "--tuned", "tuned"], "got --tuned beside --text"),
        (["apply", "tuned", "--text", TEXT, "--method", "fixed_prompt"], "holds a tuned lens, which has none"),
        (["apply", "model", "--text", TEXT, "--method", "fixed_prompt"], "is no run, so that the logit lens reads it"),
        (["apply", "model", "--text", TEXT, "--model", "model"], "leave --method and --model out"),
        (["train", "--lens", "tuned", "--data.heldout-share", "0", "--out", "never"], "a lens is measured on held-out"),
        (["report", "model"], "holds no manifest.json"),
        (["train", "--lens", "tuned", "--model", "encoder", "--out", "never"], "got an encoder; a lens needs the"),
        (["apply", "encoder", "--text", TEXT], "ask this one's layers with `interp probe`"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(runs, arguments, told, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["lens", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not (runs / "never").exists()


def test_the_page_shows_grid_curves_and_tables_and_leads_on_click(runs, browser, capsys):
    path = runs / "lens.html"
    command = ["lens", "report", str(runs / "future"), str(runs / "tuned"), "--text", TEXT, "--out", str(path)]
    assert main(command) == 0
    visit = Visit(browser, path)
    page = visit.page
    page.goto(visit.address)
    page.wait_for_selector(".plot-grid-1 .canvas[data-drawn]")
    assert page.locator(".reading select option").all_inner_texts()[:2] == ["logit lens", "linear hidden"]
    assert page.locator(".cell tr").count() == 2
    box = page.locator(".plot-grid-1 .nsewdrag").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] - 2)
    page.wait_for_function("location.hash.includes('layer=0&at=0')")
    expect(page.locator(".cell p")).to_contain_text("block 0, position 0, behind")
    page.get_by_role("button", name="fed", exact=True).click()
    page.wait_for_selector(".plot-precision-fed .canvas[data-drawn]")
    expect(page.locator(".arms table")).to_contain_text("the model itself")
    page.locator(".plot-divergence .canvas").scroll_into_view_if_needed()
    page.wait_for_selector(".plot-divergence .canvas[data-drawn]")
    visit.close()
