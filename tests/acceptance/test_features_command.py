"""`interp features` on a tiny run: files, resume after a kill, other text, errors in one line."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet
import pytest

from interp.cli import main
from saes.features import FeatureStore
from tests.families import save_model, tiny_model
from tests.texts import tiny_texts, write_jsonl

SMALL = [
    "--hook", "blocks.1.hook_resid_post", "--sae.d-sae", "32", "--k", "4", "--batch-size", "64", "--tokens", "1280",
    "--shuffle.block-tokens", "320", "--data.context-size", "16", "--data.batch-tokens", "64",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    save_model(tiny_model("llama"), folder / "model")
    write_jsonl(folder / "texts.jsonl", tiny_texts(400))
    inputs = ["--model", str(folder / "model"), "--dataset", str(folder / "texts.jsonl")]
    assert main(["train", *inputs, *SMALL, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_one_command_leaves_a_store_and_parquet(run, capsys):
    assert main(["features", str(run), "--tokens", "2k", "--examples", "6", "--export", "parquet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    store = FeatureStore.open(run / "features")
    assert store.statistics.top.values.shape == (32, 6)
    assert told["tokens"] == store.statistics.n_tokens >= 2000
    assert told["alive"] == (store.statistics.density > 0).sum()
    assert [pyarrow.parquet.read_table(path).num_rows > 0 for path in told["parquet"]] == [True, True]
    shown = int(store.statistics.firing_tokens[store.statistics.density.argmax(), 0])
    assert store.statistics.density.argmax() in dict(store.features_of_token(shown))
    assert (run / "features" / "vocabulary.json").exists()


def test_other_text_is_read_whole(run, tmp_path):
    other = write_jsonl(tmp_path / "other.jsonl", tiny_texts(40, seed=9))
    assert main(["features", str(run), "--dataset", str(other)]) == 0
    store = FeatureStore.open(run / "features")
    assert store.provenance["data"]["dataset"] == str(other)
    assert store.statistics.n_documents == 40


def test_a_killed_pass_goes_on_with_the_same_bytes(run):
    command = [sys.executable, "-c", _SLOW, str(run), "6000"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    whole = {path.name: path.read_bytes() for path in (run / "features").iterdir()}
    partial = run / "features.partial"
    killed = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (partial / "shard_00003.safetensors").exists():
        assert killed.poll() is None
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kept = {path.name for path in partial.glob("shard_*")}
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert kept
    assert {path.name: path.read_bytes() for path in (run / "features").iterdir()} == whole
    assert not partial.exists()


# Many small shards, so that there is something to be killed between.
_SLOW = """
import sys
from interp.cli import main
from saes.feature_pass import shards
shards.SHARD_TOKENS = 100
sys.exit(main(["features", sys.argv[1], "--tokens", sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "none"], "expected a number of tokens"),
        (["--window", "0"], "range"),
        (["--dataset", "/nowhere.jsonl"], "no such file"),
        (["--export", "csv"], "parquet"),
    ],
)
def test_mistakes_are_told_in_one_line(run, capsys, arguments, message):
    assert main(["features", str(run), *arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("interp: ")
    assert message in told


def test_a_report_shows_the_features_there_are_or_says_that_it_does(run, capsys):
    n_tokens = FeatureStore.open(run / "features").provenance["settings"]["n_tokens"]
    assert main(["report", str(run), "--tokens", str(n_tokens + 1)]) == 2
    assert "interp features --tokens" in capsys.readouterr().err
    assert main(["report", str(run), "--tokens", str(n_tokens)]) == 0


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["features", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err
