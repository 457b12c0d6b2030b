"""`interp contrast` on texts that differ in one word, and on texts that do not differ."""

import json
import random
import re

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from tests.browsing import Visit, launched_browser

HOOK = "blocks.1.hook_resid_post"
_SLOTS = (
    "One day, a {} ran to the park.",
    "Lily saw the {} and smiled.",
    "The little {} was very happy.",
    "Tom had a {} that liked to play.",
    "They found a {} under the tree.",
    "A {} sat in the sun all day.",
)


def _story(draw, words):
    return f"{draw.choice(_SLOTS).format(draw.choice(words))} {draw.choice(_SLOTS).format('ball')}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contrast")
    flags = ["--hook", HOOK, "--tokens", "20000", "--batch-size", "512", "--d-sae", "128", "--k", "8", "--seed", "0"]
    done = CliRunner().invoke(cli, ["train", *flags, "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    draw = random.Random(0)
    nouns = {"dogs": ("dog",), "cats": ("cat",), "one": ("dog", "cat"), "other": ("dog", "cat")}
    for name, words in nouns.items():
        lines = [
            f"{draw.choice(_SLOTS).format(draw.choice(words))} {draw.choice(_SLOTS).format('ball')}" for _ in range(40)
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    said = (("hi", "ho"), ("x", "y"))
    talks = [[{"role": "user", "content": one}, {"role": "assistant", "content": other}] for one, other in said]
    (folder / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return folder


def _contrast(folder, *arguments):
    result = CliRunner().invoke(cli, ["contrast", *(str(folder / name) for name in arguments[:2]), *arguments[2:]])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("what", [("--run",), ("--model", "embedded", "--hook", HOOK)])
def test_features_and_neurons_of_a_word_are_found_and_open_as_a_page(folder, what):
    source = [what[0], str(folder / "run")] if what == ("--run",) else list(what)
    page, out = folder / "pages" / f"{len(what)}.html", folder / f"{len(what)}.json"
    told = _contrast(folder, "dogs.txt", "cats.txt", *source, "--top", "4", "--draws", "3000",
                     "--page", str(page), "--out", str(out), "--json")  # fmt: skip
    found = json.loads(told)
    assert found == json.loads(out.read_text())
    assert found["n_discoveries"] >= 1
    best = found["rows"][0]
    assert abs(best["auc_mean"] - 0.5) > 0.3
    assert best["auc_interval"][0] <= best["auc_mean"] <= best["auc_interval"][1]
    with launched_browser() as browser:
        visit = Visit(browser, page)
        visit.page.goto(visit.address)
        visit.page.wait_for_selector(".plot-effects .main-svg", state="attached")
        assert visit.page.locator("#table tbody tr").count() == 4
        visit.page.locator("#table a").first.click()
        visit.page.wait_for_function("hash => location.hash === hash", arg=f"#feature-{best['feature']}")
        shown = visit.page.locator(f"#feature-{best['feature']} .tok.peak")
        assert shown.count() >= 3
        visit.close()


def test_texts_of_one_kind_are_not_separated(folder):
    found = json.loads(
        _contrast(folder, "one.txt", "other.txt", "--run", str(folder / "run"), "--draws", "2000", "--json")
    )
    assert found["n_discoveries"] == 0


def test_the_table_names_both_sides_and_the_page(folder):
    page = folder / "told.html"
    told = _contrast(folder, "dogs.txt", "cats.txt", "--run", str(folder / "run"), "--draws", "1000", "--top", "3",
                     "--page", str(page))  # fmt: skip
    # The strongest token is marked in what is cut out around it.
    assert re.search(r"\[␣?\w+\]\s*$", told, re.MULTILINE)
    assert told.splitlines()[-1] == f"page  {page.as_uri()}"
    assert "dogs.txt, 40 documents" in " ".join(told.split())
    assert "false-discovery rate of 5%" in " ".join(told.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dogs.txt", "cats.txt"], "neither --run nor --hook"),
        (["dogs.txt", "cats.txt", "--run", "RUN", "--hook", HOOK], "leave --hook out"),
        (["dogs.txt", "dogs.txt", "--hook", HOOK], "give two sets of texts"),
        (["dogs.txt", "absent.txt", "--hook", HOOK], "absent.txt"),
        (["dogs.txt", "cats.txt", "--hook", "blocks.9.hook_resid_post"], "blocks.9"),
        (["dogs.txt", "cats.txt", "--hook", HOOK, "--roles", "assistant"], "plain text"),
        (["dogs.txt", "talks.jsonl", "--hook", HOOK, "--text-field", "messages"], "no chat template"),
    ],
)
def test_what_cannot_be_contrasted_is_told_in_one_line(folder, arguments, says, capsys):
    paths = [str(folder / name) for name in arguments[:2]]
    assert main(["contrast", *paths, *(a.replace("RUN", str(folder / "run")) for a in arguments[2:])]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error
