"""`interp codebook` on a tiny run: what is told when little is measured, and that mistakes leave nothing behind."""

import json
import shutil

import pytest
from click.testing import CliRunner

from interp.cli import cli, main
from interp.codebooks.config import CodebookConfig
from interp.codebooks.inspected import Inspection
from interp.codebooks.record import CodeRecord
from interp.codebooks.training import train_codebooks
from tests.codebook_runs import run_settings, write_inputs


def _invoke(*arguments):
    result = CliRunner().invoke(cli, ["codebook", *(str(argument) for argument in arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    write_inputs(folder)
    train_codebooks(CodebookConfig.parse(run_settings(folder, "run")))
    train_codebooks(CodebookConfig.parse(run_settings(folder, "plain", at=[], tokens=120)))
    return folder


@pytest.fixture
def fresh(folder, tmp_path):
    """The run without an inspection."""
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def inspected(folder):
    _invoke("inspect", folder / "run", "--tokens", "600")
    return folder / "run"


def test_few_tokens_end_in_a_page_that_says_what_was_not_measured(fresh):
    out = _invoke("inspect", fresh, "--tokens", "20", "--pattern", "w5").output
    assert "detection AUC, median not measured of" in " ".join(out.split())
    assert "not measured" in (fresh / "report.html").read_text()
    assert Inspection.load(fresh / "inspection.json").n_tokens == 20


def test_other_text_and_neurons_are_named(folder, fresh):
    (fresh.parent / "more.jsonl").write_text((folder / "text.jsonl").read_text() + '{"text": "w3 w9"}\n')
    more = ["--dataset", fresh.parent / "more.jsonl", "--neurons", folder / "plain", "--json"]
    held = json.loads(_invoke("inspect", fresh, "--tokens", "100", *more).stdout)
    assert (held["dataset"], held["split"]) == (str(fresh.parent / "more.jsonl"), "other")
    assert held["neurons_of"] == "the finetune without codebooks, plain"
    assert held["provenance"]["data"] == str(fresh.parent / "more.jsonl")
    page = (fresh / "report.html").read_text()
    assert "another than that of training" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompt", "w5 " * 40], "reads 24"),
        (["--pattern", ""], "empty pattern"),
        (["--pattern", "w5", "--pattern", "("], "regular expression"),
        (["--neurons", "FOLDER/run"], "has codebooks"),
        (["--out", "FOLDER"], "which is a folder"),
        (["--out", "FOLDER/text.jsonl/page.html"], "a file stands where a folder is needed"),
    ],
)
def test_a_mistake_in_looking_leaves_nothing_behind(folder, fresh, arguments, says, capsys):
    before = sorted(path.relative_to(fresh) for path in fresh.rglob("*"))
    arguments = [one.replace("FOLDER", str(folder)) for one in arguments]
    assert main(["codebook", "inspect", str(fresh), "--tokens", "100", *arguments]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert sorted(path.relative_to(fresh) for path in fresh.rglob("*")) == before


def test_a_page_is_written_where_no_folder_was(fresh, tmp_path):
    _invoke("inspect", fresh, "--tokens", "100", "--out", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "RUN", "--token", ""], "nothing but space"),
        (["search", "RUN", ""], "empty pattern"),
        (["steer", "RUN", "w5", "--codes", "0.attn.0.1", "--pattern", ""], "empty pattern"),
        (["steer", "RUN", "w5", "--codes", "0.attn.0.1", "--pattern", "x*"], "every text matches"),
        (["steer", "RUN", "w5", "--codes", "0.attn.0.1", "--pattern", "w", "--where", "500"], "got position 500"),
        (["steer", "RUN", "w5", "--codes", "0.attn.0.1", "--pattern", "w", "--where", "-1"], "got position -1"),
    ],
)
def test_what_cannot_mean_anything_is_refused(inspected, arguments, says, capsys):
    assert main(["codebook", *(one.replace("RUN", str(inspected)) for one in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("interp: ")
    assert says in error


def test_steering_tells_its_scale_and_what_was_cut(inspected, tmp_path):
    quick = ["--texts", "2", "--new-tokens", "90", "--controls", "30", "--out", tmp_path]
    asked = ["steer", inspected, "w5 " * 18, "--codes", "0.attn.0.1", "--pattern", "w7"]
    out = " ".join(_invoke(*asked, *quick).output.split())
    held = json.loads((tmp_path / "steering.json").read_text())
    assert held["unsteered"]["toward"] == 1.0
    assert held["steered"]["toward"] > 0
    # The other eleven codes of the codebook, each once.
    assert (len(held["controls"]), held["asked_sets"]) == (11, 30)
    assert held["new_tokens"] < held["asked_tokens"] == 90
    assert "11 that differ, of 30 asked for" in out
    assert f"{held['new_tokens']}, not 90" in out
    assert 0 < held["p_toward"] <= 1
    without = json.loads(_invoke(*asked, "--texts", "1", "--new-tokens", "2", "--controls", "0", "--json").stdout)
    assert (without["p"], without["relative_shift"]) == (None, None)
    assert "not measured" in _invoke(*asked, "--texts", "1", "--new-tokens", "2", "--controls", "0").output


def test_text_that_has_changed_since_is_not_steered_on(folder, fresh, capsys):
    text = fresh.parent / "more.jsonl"
    whole = (folder / "text.jsonl").read_text() + '{"text": "w3 w9"}\n'
    text.write_text(whole)
    _invoke("inspect", fresh, "--tokens", "600", "--dataset", text)
    asked = ["steer", fresh, "w5", "--codes", "0.attn.0.1", "--pattern", "w8", "--texts", "1", "--new-tokens", "2"]
    asked += ["--controls", "0"]
    assert json.loads(_invoke(*asked, "--json").stdout)["unsteered"]["toward"] == 1.0
    # Another document at the beginning, and an end before that of the record.
    for changed in ("".join(whole.splitlines(keepends=True)[7:]), "".join(whole.splitlines(keepends=True)[:20])):
        text.write_text(changed)
        assert main(["codebook", *map(str, asked)]) == 2
        assert "is not the text that was looked at" in capsys.readouterr().err


def test_a_record_of_other_weights_is_not_searched(inspected, fresh, capsys):
    for name in ("record.safetensors", "record.json"):
        shutil.copy(inspected / "codebooks" / name, fresh / "codebooks" / name)
    path = fresh / "codebooks" / "record.json"
    head = json.loads(path.read_text())
    assert CodeRecord.load(path.with_suffix(".safetensors")).source["split"] == "heldout"
    path.write_text(json.dumps(head | {"source": head["source"] | {"model": "0" * 64}}))
    for asked in (["search", str(fresh), "w5"], ["steer", str(fresh), "w5", "--codes", "0.attn.0.1", "--pattern", "w"]):
        assert main(["codebook", *asked]) == 2
        assert "a record of other weights" in capsys.readouterr().err


def test_scores_on_training_text_have_another_name(folder, tmp_path):
    settings = run_settings(folder, "run")
    flags = ["--model", settings["model"], "--dataset", settings["dataset"], "--n-codes", "5", "--k", "1"]
    flags += ["--tokens", "120", "--data.batch-tokens", "120", "--data.context-size", "16", "--device", "cpu"]
    held = json.loads(_invoke("train", *flags, "--data.heldout-share", "0", "--out", tmp_path / "a", "--json").stdout)
    assert held["training_text_loss_nats"] > 0
    assert not [name for name in held if name.startswith("heldout")]


def test_help_says_what_has_to_run_first_and_which_pairs_are_shown():
    told = " ".join(_invoke("steer", "--help").output.split())
    assert "inspect RUN` has to run first" in told
    assert "no intervention is 1" in told
    told = " ".join(_invoke("inspect", "--help").output.split())
    assert "neighbouring codebooks" in told
    assert "--neurons" in told
    assert "outweighs the loss of the next token" in " ".join(_invoke("train", "--help").output.split())
