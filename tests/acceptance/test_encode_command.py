"""`interp encode` on a run and on an SAE folder: the file, the pipe, errors in one line."""

import io
import json
import shutil
import sys

import pyarrow.parquet
import pytest

from interp.cli import main
from saes.encoded_parquet import read_provenance
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encode")
    for name, seed in (("model", 0), ("other", 1)):
        save_model(tiny_model("llama", seed=seed), folder / name)
    write_jsonl(folder / "texts.jsonl", tiny_texts(100))
    (folder / "lines.txt").write_text("w5 w6 w7\n\nw8 w9\n")
    size = ["--sae.d-sae", "64", "--k", "4", "--batch-size", "64", "--tokens", "640", "--shuffle.block-tokens", "320"]
    inputs = ["--model", str(folder / "model"), "--dataset", str(folder / "texts.jsonl")]
    more = ["--hook", HOOK, "--data.context-size", "16", "--out", str(folder / "run")]
    assert main(["train", *inputs, *size, *more]) == 0
    return folder / "run"


def _columns(path):
    return pyarrow.parquet.read_table(path).to_pydict()


def test_a_run_and_its_sae_folder_encode_alike(run, tmp_path, capsys):
    lines = str(run.parent / "lines.txt")
    assert main(["encode", str(run), "--texts", lines, "--out", str(tmp_path / "a.parquet"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n_documents"], told["n_tokens"]) == (3, 5)
    assert main(["encode", str(run / "sae"), "--texts", lines, "--out", str(tmp_path / "b.parquet")]) == 0
    assert _columns(tmp_path / "a.parquet") == _columns(tmp_path / "b.parquet")
    assert set(_columns(tmp_path / "a.parquet")["document"]) == {0, 2}
    manifest = json.loads((run / "manifest.json").read_text())
    assert read_provenance(tmp_path / "a.parquet")["model"]["content_hash"] == manifest["model"]["content_hash"]


def test_text_from_a_pipe_and_chosen_features(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w5 w6 w7\n\nw8 w9\n")))
    assert main(["encode", str(run), "--texts", "-"]) == 0
    everything = _columns("stdin.features.parquet")
    feature = everything["feature"][0]
    arguments = ["encode", str(run), "--texts", str(run.parent / "lines.txt"), "--features", f"{feature},63"]
    assert main(arguments) == 0
    assert set(_columns("lines.features.parquet")["feature"]) <= {feature, 63}
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--texts", "nowhere.txt"], "no such file"),
        (["--texts", "empty.txt"], "no usable token"),
        (["--texts", "lines.txt", "--features", "1,64"], "got feature 64; the SAE has 64 features"),
        (["--texts", "lines.txt", "--features", "one"], "feature numbers"),
        (["--texts", "lines.txt", "--model", "other"], "differs from the one the run was trained on"),
        (["--texts", "texts.jsonl", "--text-field", "story"], "name the right one with --text-field"),
        (["--texts", "lines.txt", "--unit", "word"], "word"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(run, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(run.parent)
    (run.parent / "empty.txt").write_text("\n \n")
    out = tmp_path / "x.parquet"
    assert main(["encode", "run", "--out", str(out), *more]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("interp: ")]
    assert len(error) == 1
    assert message in error[0]
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_named_after_the_texts_and_never_as_they_are(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = pyarrow.table({"text": ["w5 w6 w7"]})
    pyarrow.parquet.write_table(table, "reviews.parquet")
    (tmp_path / ".lines").mkdir()
    shutil.copy(run.parent / "lines.txt", ".lines/one.txt")
    for texts, name in (("reviews.parquet", "reviews"), (".lines", "lines"), (".lines/../.lines/.", "lines")):
        assert main(["encode", str(run), "--texts", texts, "--overwrite"]) == 0
        assert (tmp_path / f"{name}.features.parquet").exists()
    assert main(["encode", str(run), "--texts", "reviews.parquet", "--out", "reviews.parquet", "--overwrite"]) == 2
    assert "among the texts" in capsys.readouterr().err
    assert pyarrow.parquet.read_table("reviews.parquet").to_pydict() == table.to_pydict()


def test_what_files_do_not_say_can_be_said(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    folder, out = shutil.copytree("run/sae", tmp_path / "sae"), tmp_path / "x.parquet"
    (folder / "interp.json").unlink()
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"] |= {"hook_name": None, "context_size": None, "prepend_bos": None}
    (folder / "cfg.json").write_text(json.dumps(config))
    arguments = [str(folder), "--model", "model"]
    encode = ["encode", *arguments, "--texts", "lines.txt", "--out", str(out)]
    assert main(encode) == 2
    assert "hook=" in capsys.readouterr().err
    assert main([*encode, "--hook", HOOK, "--activation-scale", "2.0", "--no-bos"]) == 0
    assert read_provenance(out)["prepend_bos"] is False
    assert min(_columns(out)["position"]) == 0
    # The model reads fewer tokens than rows have by default.
    imported = ["import", *arguments, "--hook", HOOK, "--dataset", "texts.jsonl", "--out", str(tmp_path / "imported")]
    assert main(imported) == 0
    assert main(["encode", "run", "--texts", "lines.txt", "--out", str(tmp_path / "y.parquet"), "--hook", HOOK]) == 2
    assert "is a run, which holds its hook" in capsys.readouterr().err


def test_folders_without_an_sae_or_with_another_model_are_told(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    out = ["--texts", "lines.txt", "--out", str(tmp_path / "x.parquet")]
    assert main(["encode", str(tmp_path), *out]) == 2
    assert "no saved SAE" in capsys.readouterr().err
    assert main(["encode", "run/sae", "--model", "other", *out]) == 2
    assert "the SAE was trained on" in capsys.readouterr().err
    # From elsewhere: nothing says which model, or only its name.
    shutil.copytree("run/sae", tmp_path / "sae")
    (tmp_path / "sae" / "interp.json").unlink()
    assert main(["encode", str(tmp_path / "sae"), "--model", "embedded", *out]) == 2
    assert "width 16" in capsys.readouterr().err
    assert main(["encode", str(tmp_path / "sae"), "--model", "other", *out]) == 0
