"""Killed at moments drawn by seed and taken up again, every command comes to the identical result."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kills.contents import contents, differences, timeless

ROOT = Path(__file__).parents[2]
COMMANDS = {"train", "sweep", "collect", "features"}


def _killed(*words):
    """In a process of its own: what forks must have one thread."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--json", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    assert done.returncode == 0, told.get("trials") or done.stderr
    return told


def test_one_kill_of_every_command():
    told = _killed("--kills", "4", "--seed", "0", "--in-a-row", "1")
    assert told["kills"] == 4
    assert told["identical"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixty_kills():
    told = _killed("--kills", "60", "--seed", "0")
    assert told["kills"] == 60
    assert set(told["kills_of"]) == COMMANDS
    assert {"starting", "checkpoint"} <= set(told["phases"])
    assert told["identical"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_while_a_shard_is_written():
    """Of all commands' kills hardly one hits one; of this command's every fourth does."""
    told = _killed("--kills", "40", "--seed", "0", "--commands", "collect")
    assert "shard" in told["phases"]
    assert told["identical"]


def _folder(path, **texts):
    path.mkdir()
    for name, text in texts.items():
        (path / name).write_text(text)
    return contents(path)


def test_only_when_and_how_fast_is_not_compared(tmp_path):
    expected = _folder(tmp_path / "a", **{"x.json": '{"loss": 1, "seconds_harvest": 2, "commit": "a"}'})
    assert differences(expected, _folder(tmp_path / "b", **{"x.json": '{"loss": 1, "seconds_harvest": 3}'})) == []
    other = _folder(tmp_path / "c", **{"x.json": '{"loss": 2, "seconds_harvest": 2, "commit": "a"}'})
    assert differences(expected, other) == ["x.json: .loss is 2, was 1"]
    assert timeless({"n_tokens": 1, "rows": [{"tokens_per_s": 2, "l0": 3}]}) == {"n_tokens": 1, "rows": [{"l0": 3}]}


def test_what_is_missing_left_over_or_other_is_told(tmp_path):
    expected = _folder(tmp_path / "a", **{"x.bin": "1", "y.bin": "1"})
    got = _folder(tmp_path / "b", **{"x.bin": "2", ".y.bin.0123abcd.tmp": "1"})
    (tmp_path / "b" / ".step_1.tmp").mkdir()
    found = differences(expected, got | contents(tmp_path / "b"))
    assert sorted(line.split(" is ")[0] for line in found) == [
        ".step_1.tmp/: left over",
        ".y.bin.0123abcd.tmp: left over",
        "x.bin: content",
        "y.bin: missing",
    ]
