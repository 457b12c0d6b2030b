import json
from types import SimpleNamespace

import pytest
import torch

from interp.errors import NonFiniteError
from interp.health.stops import read_stop
from interp.loop import StepDone, StepReport
from interp.recording import MetricsFile, ProgressLines, Recording, progress_of_stages, record, shown
from interp.timing import HostLaps


def test_progress_without_a_total_tells_how_much_is_done(capsys):
    with ProgressLines("encode", None, seconds_between_lines=0.0) as progress:
        progress.show(1200, "documents")
    assert capsys.readouterr().err == "encode: 1,200 documents\n"


def test_the_last_line_always_comes(capsys):
    with ProgressLines("train", 3, seconds_between_lines=1000.0) as progress:
        for done in (1, 2, 3):
            progress.show(done)
    assert capsys.readouterr().err == "train: 3/3\n"


def test_what_was_told_already_is_not_told_again(capsys):
    with ProgressLines("texts", 2) as progress:
        for _ in range(3):
            progress.show(2)
    assert capsys.readouterr().err == "texts: 2/2\n"


def test_each_stage_has_a_bar_of_its_own(capsys):
    with progress_of_stages() as tell:
        for done in (1, 2):
            tell("features", done, 2)
        tell("statistics", 7, 7)
    assert capsys.readouterr().err.splitlines() == ["features: 2/2", "statistics: 7/7"]


def _steps(n_steps, **seconds):
    """Steps that each take so much, by name."""
    laps = HostLaps()
    for step in range(1, n_steps + 1):
        for name, value in seconds.items():
            laps.add(name, value)
        yield StepDone(step, 100 * step, StepReport(torch.tensor(1.0), {}, 100), 1e-3, 0.5, laps)


def test_the_time_of_a_row_is_that_of_its_steps(tmp_path):
    steps = _steps(4, harvest=0.375, shuffle=0.125, update=0.25, ahead=0.5)
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for _ in record(steps, metrics, n_steps=4, recording=Recording(log_every=2), save=lambda _: None):
        pass
    metrics.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        assert (row["seconds_harvest"], row["seconds_shuffle"], row["seconds_update"]) == (0.75, 0.25, 0.5)
        # What threads did meanwhile takes nobody's time.
        assert row["tokens_per_s"] == pytest.approx(200 / 1.5, abs=0.1)
        assert row["seconds_ahead"] == 1.0
        assert "seconds_text" not in row


def _driven(folder, steps, n_steps):
    metrics = MetricsFile(folder / "metrics.jsonl")
    try:
        yield from record(steps, metrics, n_steps=n_steps, recording=Recording(log_every=1), save=lambda _: None)
    finally:
        metrics.close()


def _failing(error):
    yield from _steps(1, harvest=0.1, update=0.1)
    raise error


@pytest.mark.parametrize(
    ("error", "reason", "interrupted"),
    [
        (NonFiniteError("step 2: loss is nan\nlower it"), "step 2: loss is nan lower it", False),
        (KeyboardInterrupt(), "KeyboardInterrupt", True),
        (ValueError("a bug"), "a bug", False),
    ],
)
def test_what_ends_a_run_early_is_noted_until_it_goes_on(tmp_path, error, reason, interrupted):
    with pytest.raises(type(error)):
        list(_driven(tmp_path, _failing(error), 3))
    stop = read_stop(tmp_path)
    assert (stop.reason, stop.interrupted) == (reason, interrupted)
    MetricsFile(tmp_path / "metrics.jsonl").close()
    assert read_stop(tmp_path) is None


def test_a_run_that_its_driver_leaves_was_interrupted_unless_it_was_done(tmp_path):
    steps = list(_steps(2, harvest=0.1, update=0.1))
    for taken, interrupted in ((1, True), (2, False)):
        driven = _driven(tmp_path, iter(steps), 2)
        for _ in range(taken):
            next(driven)
        driven.close()
        assert (read_stop(tmp_path) is not None) == interrupted


def test_troubles_are_told_once_as_they_arise(capsys):
    rows = [(done, _bad_row(done.step)) for done in _steps(30, harvest=0.1, update=0.1)]
    assert len(list(shown(rows, label="train", n_steps=30))) == 30
    told = [line for line in capsys.readouterr().err.splitlines() if "critical" in line]
    assert len(told) == 1
    assert told[0].startswith("train: critical: Explained variance is -0.500")


@pytest.mark.parametrize(("start", "told"), [(0, "over the whole run"), (2, "since step 2")])
def test_the_last_line_tells_the_rate_of_the_run(capsys, monkeypatch, start, told):
    """Half a second a step of 100 tokens, though the last interval says 10 tokens/s."""
    now = [1000.0]
    monkeypatch.setattr("interp.recording.time", SimpleNamespace(monotonic=lambda: now[0]))

    def steps():
        for done in list(_steps(4, update=0.1))[start:]:
            now[0] += 0.5
            yield done, _row(done.step)

    assert len(list(shown(steps(), label="train", n_steps=4, start=start))) == 4 - start
    assert capsys.readouterr().err == f"train: 4/4 loss 5  200 tokens/s {told}\n"


def _row(n):
    return {"step": n, "n_tokens": 100 * n, "loss": 5.0, "tokens_per_s": 10.0}


def _bad_row(n):
    return {"step": n, "n_tokens": 100 * n, "loss": 5.0, "explained_variance": -0.5, "tokens_per_s": 10.0}
