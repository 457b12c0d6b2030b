"""`interp disentangle` on a small SAE: every arm, a page that draws itself, errors in one line."""

import itertools
import json

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from probes.concept_files import save_concepts
from probes.concepts import ConceptSets, Example, ExampleSet
from probes.disentanglement import METRICS
from tests.browsing import Visit, launched_browser
from tests.treebanks import write_treebank

HOOK = "blocks.0.hook_resid_post"
WORDS = {
    ("animal", "one"): ["dog", "cat", "bird", "bear", "frog", "horse"],
    ("animal", "many"): ["dogs", "cats", "birds", "bears", "frogs", "horses"],
    ("thing", "one"): ["ball", "box", "car", "hat", "book", "door"],
    ("thing", "many"): ["balls", "boxes", "cars", "hats", "books", "doors"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disentangle")
    flags = ["--hook", HOOK, "--tokens", "4096", "--batch-size", "512", "--d-sae", "64", "--k", "6"]
    done = CliRunner().invoke(cli, ["train", *flags, "--seed", "0", "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    examples = tuple(
        Example(text=f"{slot} {form}", word=str(index % 6) + kind, labels={"kind": kind, "number": number})
        for ((kind, number), forms), slot in itertools.product(WORDS.items(), ("They saw the", "He liked the"))
        for index, form in enumerate(forms)
    )
    attributes = {"kind": ("animal", "thing"), "number": ("one", "many")}
    one = ExampleSet(kind="examples", name="nouns", attributes=attributes, examples=examples)
    alone = [example.model_copy(update={"labels": {"kind": example.labels["kind"]}}) for example in examples]
    other = ExampleSet(kind="examples", name="kinds", attributes={"kind": attributes["kind"]}, examples=tuple(alone))
    save_concepts(folder / "concepts.jsonl", ConceptSets(concepts=(one, other)))
    return folder


def test_every_arm_is_measured_and_the_page_draws_itself(folder):
    page, out = folder / "page.html", folder / "figures" / "out.json"
    arguments = [str(folder / "run"), "--concepts", str(folder / "concepts.jsonl"), "--halves", "3"]
    result = CliRunner().invoke(cli, ["disentangle", *arguments, "--page", str(page), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(out.read_text())
    # The set with one kind of label is left out unless it is named.
    (report,) = json.loads(out.read_text())["reports"]
    assert report["title"] == "nouns"
    arms = {arm["name"]: arm for arm in report["arms"]}
    assert list(arms) == ["features", "neurons", "neurons, rotated", "probe directions", "features, labels shuffled"]
    assert all(set(METRICS) <= set(arm["scores"]) for arm in arms.values())
    # Number can be read from a word's own embedding; labels dealt out anew cannot.
    assert arms["neurons"]["scores"]["InfoE"]["value"] > 0.05
    assert arms["features, labels shuffled"]["gated"]
    # A rotation keeps every angle.
    ranks = [arms[name]["scores"]["effective rank raw"]["value"] for name in ("neurons", "neurons, rotated")]
    assert ranks[0] == pytest.approx(ranks[1])
    with launched_browser() as browser:
        visit = Visit(browser, page)
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".plot-metrics-nouns .main-svg", state="attached")
        assert visit.page.locator("#table-nouns tbody tr").count() == len(METRICS) + 7
        visit.page.keyboard.press("t")
        visit.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        visit.close()


def test_one_factor_alone_leaves_modularity_undefined(folder):
    arguments = [str(folder / "run"), "--concepts", str(folder / "concepts.jsonl"), "--sets", "kinds", "--halves", "2"]
    arguments += ["--page", str(folder / "told.html")]
    result = CliRunner().invoke(cli, ["disentangle", *arguments])
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if line.split()[:1] == ["modularity"])
    assert line.count("not defined") == 5
    assert result.stdout.splitlines()[-1] == f"page  {(folder / 'told.html').as_uri()}"


def test_words_of_a_treebank_are_labels_too(folder):
    bank = write_treebank(folder / "bank", n_sentences=20)
    arguments = [str(folder / "run"), "--labels", str(bank), "--attributes", "pos", "--examples", "60", "--halves", "2"]
    result = CliRunner().invoke(cli, ["disentangle", *arguments, "--clusters", "document", "--json"])
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)["reports"]
    assert report["arms"][0]["factors"] == ["pos"]
    assert report["arms"][0]["n_clusters"] <= 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["RUN/absent"], "absent"),
        (["RUN/run", "--sets", "colours"], "got 'colours'; expected some of"),
        (["RUN/run", "--concepts", "RUN/nothing.yaml"], "nothing.yaml"),
        (["RUN/run", "--labels", "RUN/nothing.csv", "--attributes", "pos"], "nothing.csv"),
        (["RUN/run", "--labels", "RUN/nothing.csv", "--sets", "nouns"], "give one source of labels"),
        (["RUN/run", "--clusters", "document"], "got --attributes or --clusters without --labels"),
        (["RUN/run", "--attributes", "pos"], "got --attributes or --clusters without --labels"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(folder, arguments, says, capsys):
    assert main(["disentangle", *(argument.replace("RUN", str(folder)) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error
