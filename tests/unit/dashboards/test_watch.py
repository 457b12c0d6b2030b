"""Reading metrics while they grow, and what the page of a run in training is told."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from dashboards.watch_charts import charts
from dashboards.watch_page import PAGE, PageWriter, render_run, render_sweep, under_way, write_watch_page
from dashboards.watch_rows import Envelope, MetricsTail, Pace
from dashboards.watch_run import RunWatch, run_folders
from interp.errors import ArtifactError
from interp.health.expected import Expected, expected_of
from interp.health.history import MOST, RECENT, History
from interp.health.stops import note_stop
from interp.runs import RunFolder, RunManifest
from saes.train_config import TrainConfig


def _row(step, **more):
    return {"step": step, "n_tokens": 2048 * step, "loss": 100.0 / step} | more


def _line(step, **more):
    return json.dumps(_row(step, **more)) + "\n"


def _run(folder, *, rows=(), status="running", **config):
    config = TrainConfig(hook="blocks.0.hook_resid_post", out=folder, **config)
    manifest = RunManifest.begin("sae", seed=0).model_copy(update={"status": status})
    run = RunFolder.begin(folder, config, manifest)
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_only_whole_new_lines_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == (False, [])
    path.write_text(_line(1) + _line(2)[:9])
    assert tail.read() == (False, [_row(1)])
    path.write_text(_line(1) + _line(2) + "no JSON\n" + _line(3))
    assert tail.read() == (False, [_row(2), _row(3)])
    assert tail.read() == (False, [])


@pytest.mark.parametrize("regrown", [(1,), (1, 3), (1, 3, 4, 5, 6, 7)])
def test_a_file_that_a_resumed_run_has_cut_is_read_anew(tmp_path, regrown):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    path.write_text(_line(1) + _line(2) + _line(3))
    tail.read()
    path.write_text("".join(_line(step, tokens_per_s=5.0) for step in regrown))
    again, rows = tail.read()
    assert again
    assert [row["step"] for row in rows] == list(regrown)


@pytest.mark.parametrize("n", [1, 7, 40, 41, 80, 999])
def test_an_envelope_is_bounded_and_loses_no_extreme(n):
    values = np.random.default_rng(n).normal(size=n).round(4)
    values[n // 2] = 77.0
    envelope = Envelope(40)
    for place, value in enumerate(values.tolist()):
        envelope.add(_row(place + 1, loss=value))
    curves = envelope.curves()
    low = curves["low"]["loss"]
    high = curves["high"].get("loss", low)
    assert len(low) == len(high) == len(curves["step"]) <= 40
    each, ends = curves["rows_each"], curves["step"]
    assert ends[-1] == n
    for place, end in enumerate(ends):
        stretch = values[place * each : end]
        assert (low[place], high[place]) == (stretch.min(), stretch.max())


def test_metrics_that_come_and_go_leave_gaps():
    envelope = Envelope()
    for step, more in ((1, {}), (2, {"dead": 3}), (3, {})):
        envelope.add(_row(step, **more))
    assert envelope.curves()["low"]["dead"] == [None, 3.0, None]
    assert "dead" not in envelope.curves()["high"]


def test_the_pace_evens_out_bursts_and_keeps_the_sum_of_time():
    pace = Pace(block_tokens=4000)
    rows = [
        _row(n, tokens_per_s=1000 / (0.1 + harvest), seconds_harvest=harvest, seconds_update=0.1)
        for n, harvest in enumerate([0.0, 0.0, 0.0, 0.4] * 10, start=1)
    ]
    smooth = [pace.add(row) for row in rows][8:]
    assert [row["pace"] for row in smooth] == pytest.approx([5000.0] * len(smooth))
    assert all(row["share_harvest"] + row["share_update"] == pytest.approx(1) for row in smooth)
    assert "share_shuffle" not in smooth[0]
    assert pace.add(_row(99)) == _row(99)


def test_a_history_is_bounded_and_keeps_the_latest_whole():
    history = History()
    for step in range(1, 5001):
        history.append(_row(step))
    steps = [row["step"] for row in history.rows]
    assert len(steps) <= MOST
    assert steps == sorted(set(steps))
    assert steps[-RECENT:] == list(range(5001 - RECENT, 5001))
    history.append(_row(4990))
    assert history.rows[-1]["step"] == 4990
    assert history.rows[-2]["step"] == 4989


def test_expectations_are_those_of_the_config(tmp_path):
    run = _run(
        tmp_path / "a", tokens=20_480, batch_size=2048, sae={"architecture": "batch_topk", "k": 16, "d_sae": 512}
    )
    expected = expected_of(run.path)
    assert (expected.n_steps, expected.k, expected.l0_target, expected.d_sae) == (10, 16.0, None, 512)
    assert (expected.has_threshold, expected.clip_norm, expected.block_tokens) == (True, 1.0, 65_536)
    steered = _run(tmp_path / "b", sae={"architecture": "standard", "l0_target": 40.0})
    assert (expected_of(steered.path).k, expected_of(steered.path).l0_target) == (None, 40.0)
    free = _run(tmp_path / "c", sae={"architecture": "standard", "l0_control": False})
    assert (expected_of(free.path).k, expected_of(free.path).l0_target) == (None, None)
    assert expected_of(tmp_path) == Expected()


def test_a_chart_for_every_metric_and_none_without():
    keys = ["loss", "mse", "loss_prefix_8", "loss_prefix_16", "dead", "share_harvest", "share_update", "penalty"]
    found = {chart["name"]: [line["key"] for line in chart["lines"]] for chart in charts(keys, Expected())}
    assert found == {
        "loss": ["loss", "loss_prefix_8", "loss_prefix_16"], "dead": ["dead"],
        "time": ["share_update", "share_harvest"], "penalty": ["penalty"],
    }  # fmt: skip
    marks = {chart["name"]: chart["marks"] for chart in charts(["l0"], Expected(k=32.0))}
    assert marks["l0"] == ({"value": 32.0, "label": "k"},)
    notes = {chart["name"]: chart["note"] for chart in charts(["pace", "share_update"], Expected(block_tokens=4096))}
    assert notes == dict.fromkeys(("pace", "time"), "means of the last 5 intervals or more and 8,192 tokens")


def test_the_state_of_a_run_is_told(tmp_path):
    rows = [_row(step, seconds_update=2.0, tokens_per_s=1000.0) for step in (1, 2)]
    run = _run(tmp_path / "a", rows=rows)
    watch = RunWatch(run.path)
    then = run.metrics_path.stat().st_mtime
    assert watch.look(now=then + 3).state == "running"
    silent = watch.look(now=then + 600)
    assert (silent.state, silent.alerts[0].name) == ("silent", "silent")
    assert "--resume" in silent.alerts[0].advice
    note_stop(run.path, ValueError("loss is nan"))
    stopped = watch.look(now=then + 3)
    assert (stopped.state, stopped.alerts[0].seen) == ("stopped", "The run stopped: loss is nan")
    assert under_way([silent])
    assert not under_way([stopped])
    run.write_manifest(run.manifest().model_copy(update={"status": "finished"}))
    assert watch.look(now=then + 600).state == "finished"


def test_a_page_under_way_refreshes_and_a_finished_one_does_not(tmp_path):
    run = _run(tmp_path / "a", rows=[_row(1)])
    seen = RunWatch(run.path).look()
    assert '"every_s":5.0' in render_run(seen, every_s=5.0)
    assert '"every_s":null' in render_run(seen)
    assert '"every_s":null' in render_run(replace(seen, state="finished"), every_s=5.0)


def test_a_run_without_metrics_has_a_page(tmp_path):
    run = _run(tmp_path / "a")
    page = write_watch_page(run.path).read_text()
    assert '"charts":[]' in page


def test_a_sweep_has_a_table_and_a_page_for_each_run(tmp_path):
    for name in ("k16", "k32"):
        _run(tmp_path / "s" / "runs" / name, rows=[_row(1, explained_variance=0.5)])
    writer = PageWriter(tmp_path / "s", every_s=5.0)
    assert [one.name for one in writer.write()] == ["k16", "k32"]
    assert "runs/k16/training.html" in writer.path.read_text()
    assert f'"above":"../../{PAGE}"' in (tmp_path / "s" / "runs" / "k16" / PAGE).read_text()
    _run(tmp_path / "s" / "runs" / "k64")
    assert len(writer.write()) == 3
    assert '"n_alerts":0' in render_sweep("s", writer.write())


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="holds no run and no runs/"):
        run_folders(tmp_path)


def test_a_long_run_has_a_small_page(tmp_path):
    rng = np.random.default_rng(0)
    keys = ["explained_variance", "l0", "dead", "dense", "grad_norm", "lr", "threshold", "tokens_per_s",
            "seconds_harvest", "seconds_shuffle", "seconds_update",
            *(f"loss_prefix_{256 << n}" for n in range(5))]  # fmt: skip
    rows = [_row(n, **dict(zip(keys, rng.random(len(keys)).tolist(), strict=True))) for n in range(1, 5001)]
    run = _run(tmp_path / "a", rows=rows)
    size = os.stat(write_watch_page(run.path)).st_size
    assert size < 160_000


def test_nothing_in_a_run_can_become_code(tmp_path):
    hostile = "</script><script>alert(1)</script>"
    run = _run(tmp_path / "a", rows=[_row(1, **{hostile: 1.0})], model=hostile)
    page = write_watch_page(run.path).read_text()
    assert page.count("</script>") == 2
    assert "<script>alert" not in page
