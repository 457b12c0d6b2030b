import json

import pytest
import torch

from interp.loop import StepDone, StepReport
from interp.recording import MetricsFile, ProgressLines, Recording, progress_of_stages, record


def test_progress_without_a_total_tells_how_much_is_done(capsys):
    with ProgressLines("encode", None, seconds_between_lines=0.0) as progress:
        progress.show(1200, "documents")
    assert capsys.readouterr().err == "encode: 1,200 documents\n"


def test_the_last_line_always_comes(capsys):
    with ProgressLines("train", 3, seconds_between_lines=1000.0) as progress:
        for done in (1, 2, 3):
            progress.show(done)
    assert capsys.readouterr().err == "train: 3/3\n"


def test_each_stage_has_a_bar_of_its_own(capsys):
    with progress_of_stages() as tell:
        for done in (1, 2):
            tell("features", done, 2)
        tell("statistics", 7, 7)
    assert capsys.readouterr().err.splitlines() == ["features: 2/2", "statistics: 7/7"]


def _step(step, *, batch, update, shuffle):
    report = StepReport(torch.tensor(1.0), {}, 100)
    return StepDone(step, 100 * step, report, 1e-3, 0.5, batch, update, shuffle)


def test_the_time_of_a_row_is_that_of_its_steps(tmp_path):
    steps = [_step(n, batch=0.5, update=0.25, shuffle=0.125) for n in (1, 2, 3, 4)]
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for _ in record(steps, metrics, n_steps=4, recording=Recording(log_every=2), save=lambda _: None):
        pass
    metrics.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        assert (row["seconds_harvest"], row["seconds_shuffle"], row["seconds_update"]) == (0.75, 0.25, 0.5)
        assert row["tokens_per_s"] == pytest.approx(200 / 1.5, abs=0.1)
