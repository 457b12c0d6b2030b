"""`interp codebook` on the embedded model and `interp study tokfsm`: files, figures, pages in a browser, errors."""

import json
import re

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from interp.codebooks.inspected import Inspection
from interp.codebooks.steered import CodeSteering
from tests.browsing import Visit, launched_browser

SMALL = [
    "--n-codes", "16", "--k", "2", "--layers", "0,1", "--tokens", "1k", "--data.context-size", "32",
    "--data.batch-tokens", "256", "--evaluation-tokens", "500",
]  # fmt: skip


def _invoke(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codebook")
    _invoke("codebook", "train", *SMALL, "--out", folder / "run")
    _invoke("codebook", "train", *SMALL, "--at", "", "--tokens", "256", "--out", folder / "plain")
    (folder / "words.json").write_text(json.dumps({"animals": ["dog", "cat", "bird"], "people": ["mom", "boy"]}))
    return folder


@pytest.fixture(scope="module")
def inspected(folder):
    arguments = ["--tokens", "3k", "--pattern", " (he|she)", "--words", folder / "words.json", "--json"]
    return json.loads(_invoke("codebook", "inspect", folder / "run", *arguments, "--prompt", "Lily was sad.").stdout)


def test_training_scores_itself_and_is_not_repeated(folder):
    again = json.loads(_invoke("codebook", "train", *SMALL, "--out", folder / "run", "--resume", "--json").stdout)
    assert again["heldout_loss_nats"] > 0
    assert 0 <= again["heldout_accuracy"] <= 1
    assert (folder / "run" / "model" / "model.safetensors").exists()
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["status"]) == ("codebook", "finished")


def test_inspection_tells_codes_and_neurons(folder, inspected):
    held = Inspection.load(folder / "run" / "inspection.json")
    assert json.loads(json.dumps(held.to_json())) == {key: value for key, value in inspected.items() if key != "prompt"}
    assert [one["label"] for one in inspected["detected"]] == [" (he|she)", "animals", "people"]
    assert inspected["detected"][0]["neuron"]["precision"] > 0
    # Two layers of six heads.
    assert [book.name for book in held.books[:7]] == [f"0.attn.{head}" for head in range(6)] + ["1.attn.0"]
    assert len(held.code_detection) == len(held.neuron_detection) == 30
    assert len(inspected["prompt"]["books"]) == 12


_WIDTHS = """() => [...document.querySelectorAll("figcaption p, section > p, p.lead")].map((p) => {
    const ruler = document.createElement("span");
    ruler.textContent = "0".repeat(100);
    ruler.style.cssText = "position: absolute; white-space: nowrap";
    p.append(ruler);
    const zero = ruler.getBoundingClientRect().width / 100;
    ruler.remove();
    return p.getBoundingClientRect().width / zero;
})"""


@pytest.mark.browser
def test_the_page_draws_itself(folder, inspected):
    with launched_browser() as browser:
        visit = Visit(browser, folder / "run" / "report.html")
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".main-svg")
        assert visit.page.locator("table").count() >= 4
        assert visit.page.locator("#contexts .context").count() > 10
        # Notes are at most 80 characters wide.
        widths = visit.page.evaluate(_WIDTHS)
        assert len(widths) >= 4
        assert max(widths) <= 80.01
        assert "\u2423(he|she)" in visit.page.locator("#judged").inner_text()
        assert visit.complaints == []
        visit.close()


def test_search_finds_codes_by_pattern_token_and_words(folder, inspected):
    for asked in ([" (the|a)"], ["--token", "the"], ["--words", folder / "words.json"]):
        found = json.loads(_invoke("codebook", "search", folder / "run", *asked, "--json", "--n", "3").stdout)["found"]
        for codes in found.values():
            assert 1 <= len(codes) <= 3
            fits = [code["fit_precision"] for code in codes]
            assert fits == sorted(fits, reverse=True)
    assert "precision" in _invoke("codebook", "search", folder / "run", " the").output


def test_steering_is_held_against_random_codes(folder, inspected, tmp_path):
    code = inspected["codes"][0]["name"]
    quick = ["--texts", "3", "--new-tokens", "3", "--controls", "2", "--out", tmp_path]
    out = _invoke("codebook", "steer", folder / "run", "--codes", code, "Once upon", "--pattern", "time", *quick)
    held = CodeSteering.load(tmp_path / "steering.json")
    assert held.codes == (code,)
    assert len(held.controls) == 2
    assert "random codes" in out.output
    assert out.output.splitlines()[-1] == f"page  {(tmp_path / 'steering.html').as_uri()}"
    page = (tmp_path / "steering.html").read_text()
    summary = json.loads(re.search(r'id="summary">(.*?)</script>', page, re.DOTALL).group(1))
    parts = {part["name"]: part for part in summary["parts"]}
    assert parts["figures"]["rows"] == [list(row) for row in held.rows()]
    assert [row[1] for row in parts["texts"]["rows"]] == [*held.texts, *held.unsteered_texts]
    assert parts["trade-off"]["kind"] == "figure"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "RUN/plain"], "plain finetune without codebooks"),
        (["inspect", "RUN/nowhere"], "no such run folder"),
        (["search", "RUN/run"], "give one of PATTERN"),
        (["search", "RUN/run", "("], "regular expression"),
        (["search", "RUN/run", "zebra crossing"], "look for something commoner"),
        (["steer", "RUN/run", "Once", "--codes", "9.attn.0.1", "--pattern", "x"], "there are codebooks at"),
        (["steer", "RUN/run", "Once", "--codes", "0.attn.0.1", "--pattern", "x", "--where", "there"], "where: got"),
        (["train", "--at", "head"], "at"),
        (["train", "--layers", "7", "--out", "RUN/other"], "layers: got 7"),
        (["train", "--k", "9", "--n-codes", "4"], "k: got 9"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(folder, inspected, arguments, says, capsys):
    assert main(["codebook", *(argument.replace("RUN", str(folder)) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error


@pytest.mark.browser
def test_the_study_writes_a_page(tmp_path):
    out = _invoke("study", "tokfsm", "--size", "tiny", "--texts", "100", "--out", tmp_path)
    assert "686" in out.output
    assert "Precision of the best code" in out.output
    with launched_browser() as browser:
        visit = Visit(browser, tmp_path / "tokfsm.html")
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".main-svg")
        assert "686" in visit.page.locator("#best").inner_text()
        assert "state" in visit.page.locator("#precisions").inner_text()
        assert visit.complaints == []
        visit.close()
