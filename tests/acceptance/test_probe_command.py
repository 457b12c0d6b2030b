"""`interp probe`: a config and flags in, tables, figures and a page that a browser draws out; errors in one line."""

import json

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from probes.probe_results import ProbeReport
from tests.browsing import Visit, expect, launched_browser
from tests.treebanks import write_treebank

FAST = [
    "--hooks", "blocks.0.hook_resid_pre,blocks.3.hook_resid_post", "--nonlinear", "false", "--cs", "1e-3,1e-1",
    "--description-length", "false", "--erasure", "false", "--group-sparse", "false",
]  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    treebank = write_treebank(folder / "treebank", n_sentences=120)
    arguments = ["--labels.source", "conllu", "--labels.path", str(treebank), "--labels.attributes", "pos,number"]
    sizes = ["--labels.examples", "900", "--out", str(folder / "out")]
    result = CliRunner().invoke(cli, ["probe", *FAST, *arguments, *sizes])
    assert result.exit_code == 0, result.output
    return folder, result


def test_it_prints_tables_by_layer_and_writes_what_it_found(done):
    folder, result = done
    for text in ("pos, held out by document", "pos, held out by word", "blocks.3.hook_resid_post", "selectivity"):
        assert text in result.stdout
    report = ProbeReport.load(folder / "out" / "probe.json")
    assert report.attributes == ("pos", "number")
    assert report.about["config"]["labels"]["examples"] == 900
    assert report.about["model"]["name"] == "embedded"
    for splits in report.splits.values():
        assert all(about["n_shared_documents"] == 0 for about in splits.values())
    assert (folder / "out" / "config.yaml").read_text().startswith("model: embedded")


def test_rules_on_the_embedded_text_need_no_file(tmp_path):
    arguments = [
        "--labels.source",
        "pattern",
        "--labels.pattern",
        r"(?i)\b(he|she|the|a|and)\b",
        "--labels.texts",
        "40",
    ]
    sizes = ["--labels.examples", "400", "--splits", "document", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, ["probe", *FAST, *arguments, *sizes, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    logistic = [row for row in found["rows"] if row["probe"] == "logistic"]
    assert [row["site"] for row in logistic] == ["blocks.0.hook_resid_pre", "blocks.3.hook_resid_post"]
    # The embedding knows which token it is.
    assert logistic[0]["score"]["value"] > 0.95


def test_the_page_draws_its_figures_and_colours_its_texts(done):
    folder, _ = done
    with launched_browser() as browser:
        visit = Visit(browser, folder / "out" / "report.html")
        page = visit.page
        page.goto(visit.address)
        page.wait_for_selector("#texts .token")
        places = page.locator("[data-figure]")
        assert places.count() > 3
        expect(page.locator("[data-figure] .plot-container")).to_have_count(places.count())
        token, select = page.locator("#texts .token").first, page.locator("#texts select").first
        before = token.get_attribute("title")
        select.select_option("1" if select.input_value() == "0" else "0")
        expect(token).not_to_have_attribute("title", before)
        visit.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--labels.source", "conllu"], "labels.path"),
        (["--labels.source", "conllu", "--labels.path", "absent.conllu"], "absent.conllu"),
        (["--labels.source", "pattern", "--labels.pattern", "("], "regular expression"),
        (["--hooks", "hook_nothing"], "hook_nothing"),
        (["--cs", "1,0.1"], "that grow"),
        (["--saes", "absent"], "absent"),
    ],
)
def test_what_cannot_be_probed_is_told_in_one_line(tmp_path, arguments, says, capsys):
    assert main(["probe", "--labels.texts", "4", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error
