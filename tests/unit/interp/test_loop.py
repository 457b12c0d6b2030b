import math
import time

import pytest
import torch
from torch import nn

from interp.checkpoints import (
    drop_old,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    restore_state,
    save_checkpoint,
    take_state,
)
from interp.errors import ArtifactError, NonFiniteError
from interp.loop import Schedule, StepReport, fit
from interp.recording import MetricsFile
from interp.timing import HostLaps


class Line(nn.Module):
    """Least squares on random data, with dropout so that the random state matters."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def losses(self, batch):
        loss = (nn.functional.dropout(batch, 0.2) @ self.w - batch.sum(1)).square().mean()
        return StepReport(loss, {"mse": loss.detach()}, batch.shape[0])

    def project_gradients(self):
        pass

    def after_update(self, report, optimiser):
        self.seen += report.n_tokens


class Numbers:
    """Batch i is drawn from seed i."""

    def __init__(self, bad=None):
        self.i, self.bad = 0, bad

    def __next__(self):
        self.i += 1
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(self.i))
        return batch * float("nan") if self.i == self.bad else batch

    def cursor(self):
        return {"i": self.i}

    def seek(self, cursor):
        self.i = cursor["i"]


def _start():
    task = Line()
    return task, torch.optim.Adam(task.parameters(), lr=1e-2), Numbers()


def _steps(task, optimiser, batches, n_steps, start=0):
    return fit(task, optimiser, batches, schedule=Schedule(lr=0.05), n_steps=20, start_step=start), n_steps - start


def _run(steps, n):
    for _ in range(n):
        next(steps)


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, cut):
    torch.manual_seed(5)
    task, optimiser, batches = _start()
    _run(*_steps(task, optimiser, batches, 20))

    torch.manual_seed(5)
    first, first_optimiser, first_batches = _start()
    _run(*_steps(first, first_optimiser, first_batches, cut))
    state = take_state(first, first_optimiser, first_batches, step=cut, n_tokens=8 * cut, metrics_offset=0)
    save_checkpoint(tmp_path, state)

    torch.manual_seed(99)
    again, again_optimiser, again_batches = _start()
    state = load_checkpoint(latest_checkpoint(tmp_path))
    restore_state(state, again, again_optimiser, again_batches)
    _run(*_steps(again, again_optimiser, again_batches, 20, start=state.step))
    assert torch.equal(task.w, again.w)
    assert torch.equal(task.seen, again.seen)


def test_a_nan_stops_before_any_weight_moves():
    task, optimiser, _ = _start()
    steps = fit(task, optimiser, Numbers(bad=4), schedule=Schedule(lr=0.05), n_steps=9)
    _run(steps, 3)
    before = task.w.clone()
    with pytest.raises(NonFiniteError, match=r"step 4.*no weight was changed"):
        next(steps)
    assert torch.equal(task.w, before)


def test_an_infinite_gradient_stops_before_any_weight_moves():
    class Steep(Line):
        def losses(self, batch):
            loss = (self.w - self.w.detach()).abs().sqrt().sum()
            return StepReport(loss, {}, 1)

    task = Steep()
    steps = fit(task, torch.optim.SGD(task.parameters()), Numbers(), schedule=Schedule(), n_steps=2)
    with pytest.raises(NonFiniteError, match="gradient norm"):
        next(steps)
    assert torch.equal(task.w, torch.zeros(4))


def test_gradients_are_clipped_to_the_norm():
    task = Line()
    schedule = Schedule(lr=1.0, warmup_share=0)
    steps = fit(task, torch.optim.SGD(task.parameters()), Numbers(), schedule=schedule, n_steps=9, clip_norm=0.5)
    done = next(steps)
    assert done.grad_norm > 0.5
    assert float(task.w.detach().norm()) == pytest.approx(0.5, rel=1e-4)


def test_the_learning_rate_rises_stays_and_falls():
    schedule = Schedule(lr=1.0, warmup_share=0.1, decay_share=0.5)
    rates = [schedule.at(step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert set(rates[10:50]) == {1.0}
    assert rates[75] == pytest.approx(0.5)
    assert 0 < rates[99] <= 0.02
    cosine = Schedule(lr=1.0, warmup_share=0.0, decay_share=1.0, decay="cosine")
    assert cosine.at(50, 100) == pytest.approx(0.5 - 0.5 * math.cos(math.pi * 0.5))


def test_old_checkpoints_go_and_the_pointer_moves_last(tmp_path):
    task, optimiser, batches = _start()
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, take_state(task, optimiser, batches, step=step, n_tokens=0, metrics_offset=0), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_2", "step_10"]
    assert latest_checkpoint(tmp_path).name == "step_10"


def test_the_checkpoint_just_written_stays(tmp_path):
    task, optimiser, batches = _start()
    for step in (10, 50):
        save_checkpoint(tmp_path, take_state(task, optimiser, batches, step=step, n_tokens=0, metrics_offset=0))
    save_checkpoint(tmp_path, take_state(task, optimiser, batches, step=20, n_tokens=0, metrics_offset=0), keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_20"]
    assert latest_checkpoint(tmp_path).name == "step_20"


def _saved(folder, *steps, keep=9):
    task, optimiser, batches = _start()
    for step in steps:
        save_checkpoint(
            folder, take_state(task, optimiser, batches, step=step, n_tokens=0, metrics_offset=0), keep=keep
        )


@pytest.mark.parametrize("keep", range(1, 8))
def test_as_many_checkpoints_stay_as_are_to_be_kept(tmp_path, keep):
    _saved(tmp_path, *range(1, 8), keep=keep)
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step_{step}" for step in range(8 - keep, 8)]


def test_what_a_kill_kept_from_going_goes_on_resume_and_later_ones_stay(tmp_path):
    _saved(tmp_path, 1, 2, 3, 4)
    (tmp_path / "step_1" / "state.json").unlink()
    (tmp_path / ".step_4.0123abcd.tmp").mkdir()
    drop_old(tmp_path, step=3, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_2", "step_3", "step_4"]


def test_a_checkpoint_that_was_being_written_anew_is_found(tmp_path):
    """As a kill leaves it between the two renames by which a folder is replaced."""
    _saved(tmp_path, 1, 2)
    (tmp_path / "step_2").rename(tmp_path / ".step_2.old")
    assert latest_checkpoint(tmp_path) == tmp_path / "step_2"
    assert load_checkpoint(tmp_path / "step_2").step == 2


@pytest.mark.parametrize("pointer", [b"\xff\xfe", b"", b"step_9", b"../step_1"])
def test_a_damaged_pointer_names_what_is_there(tmp_path, pointer):
    task, optimiser, batches = _start()
    save_checkpoint(tmp_path, take_state(task, optimiser, batches, step=1, n_tokens=0, metrics_offset=0))
    (tmp_path / "step_1_backup").mkdir()
    (tmp_path / "latest").write_bytes(pointer)
    with pytest.raises(ArtifactError, match="--resume-from step_1"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:-1] + bytes([b[-1] ^ 255])])
def test_a_damaged_checkpoint_names_the_one_to_use_instead(tmp_path, damage):
    task, optimiser, batches = _start()
    for step in (1, 2):
        save_checkpoint(tmp_path, take_state(task, optimiser, batches, step=step, n_tokens=0, metrics_offset=0))
    path = tmp_path / "step_2" / "state.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"step_2.*--resume-from step_1"):
        load_checkpoint(tmp_path / "step_2")
    assert load_checkpoint(tmp_path / "step_1").step == 1


def test_a_checkpoint_of_another_shape_is_told(tmp_path):
    task, optimiser, batches = _start()
    state = take_state(task, optimiser, batches, step=1, n_tokens=0, metrics_offset=0)
    task.w = nn.Parameter(torch.zeros(5))
    with pytest.raises(ArtifactError, match=r"w with shape \(4,\).*expects \(5,\)"):
        restore_state(state, task, optimiser, batches)


def test_metrics_written_after_the_checkpoint_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write({"step": 1})
    offset = metrics.sync()
    metrics.write({"step": 2})
    metrics.close()
    metrics = MetricsFile(path, offset=offset)
    metrics.write({"step": 2, "again": 1})
    metrics.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2, "again": 1}\n'


def test_mixing_is_the_part_of_a_batch_that_was_not_harvested():
    class Timed(Numbers):
        laps = HostLaps()

        def __next__(self):
            time.sleep(0.02)
            self.laps.end("harvest")
            time.sleep(0.01)
            return super().__next__()

    task, optimiser, _ = _start()
    timed = next(fit(task, optimiser, Timed(), schedule=Schedule(), n_steps=1)).laps.totals()
    assert timed["harvest"] >= 0.02
    assert timed["shuffle"] >= 0.01
    untold = next(fit(task, optimiser, Numbers(), schedule=Schedule(), n_steps=1)).laps.totals()
    assert untold.keys() == {"harvest", "update"}


def test_what_happens_between_two_steps_is_not_theirs():
    task, optimiser, _ = _start()
    steps = fit(task, optimiser, Numbers(), schedule=Schedule(), n_steps=2)
    before = sum(next(steps).laps.totals().values())
    time.sleep(0.1)
    begun = time.perf_counter()
    after = sum(next(steps).laps.totals().values())
    assert after - before <= time.perf_counter() - begun
