"""What commands say of themselves: help, the flags that errors name, where pages are, runs that were finished."""

import subprocess
import sys

import pytest

from interp.cli import main
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl


def _said(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_flags_say_which_values_they_take(capsys):
    told = _said(capsys, "train", "--help")
    assert "--randomise-model N " in told
    assert "--shuffle.seed N " in told
    assert "ANNOTATED" not in told


@pytest.mark.parametrize(
    ("group", "whole"),
    [("codebook", "on a token, or on a set of words."), ("lens", "measure a lens on an SAE's reconstructions.")],
)
def test_a_group_tells_its_commands_in_whole_sentences(capsys, group, whole):
    told = _said(capsys, group, "--help").split("Commands:")[1].split("Examples:")[0]
    assert whole in " ".join(told.split())
    assert "..." not in told


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["train", "m", "--hook"], "interp train"),
        (["lens", "apply", "m", "--text"], "interp lens apply"),
        (["encode", "run", "--texts"], "interp encode"),
        (["--colour"], "interp"),
        (["lens", "--colour"], "interp lens"),
    ],
)
def test_a_mistaken_flag_is_explained_by_the_help_of_its_command(capsys, words, command):
    assert main(words) == 2
    assert capsys.readouterr().err.endswith(f"(see `{command} --help`)\n")


def test_help_of_the_report_does_not_wait_for_torch():
    told = "import sys; from interp.cli import main; main(['report', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["patch", "--clean", "Lily was sad because", "--corrupt", "Tom was sad because", "--answer", " she",
         "--foil", " he"],
        ["ablate", "TEXTS"],
    ],
)  # fmt: skip
def test_a_sweep_names_its_page(capsys, tmp_path, words):
    (tmp_path / "texts.txt").write_text("Lily had a red ball\n")
    given = [word.replace("TEXTS", str(tmp_path / "texts.txt")) for word in words]
    out = tmp_path / "out"
    told = _said(capsys, *given, "--components", "mlp", "--layers", "0", "--device", "cpu", "--out", str(out))
    assert told.splitlines()[-1] == f"page  {(out / 'page.html').as_uri()}"
    assert (out / "page.html").exists()


def test_a_finished_run_is_not_said_to_be_trained_again(capsys, tmp_path):
    save_model(tiny_model("llama"), tmp_path / "model")
    write_jsonl(tmp_path / "texts.jsonl", tiny_texts(60))
    train = [
        "train", "--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "texts.jsonl"), "--hook",
        "blocks.1.hook_resid_post", "--d-sae", "16", "--k", "2", "--batch-size", "64", "--tokens", "128",
        "--shuffle.block-tokens", "128", "--data.context-size", "16", "--out", str(tmp_path / "run"), "--resume",
    ]  # fmt: skip
    assert _said(capsys, *train).splitlines()[0].rstrip() == "Trained run"
    first, *facts = _said(capsys, *train).splitlines()
    assert first.rstrip() == "run was finished already: nothing was trained"
    assert any(line.split() == ["step", "2"] for line in facts)
