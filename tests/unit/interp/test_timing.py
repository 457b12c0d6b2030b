import time

import pytest
import torch

from interp.timing import DeviceLaps, HostLaps, laps_on


class Device:
    """A queue of marks that the device passes when it is told to."""

    def __init__(self):
        self.clock_ms, self.passed_ms, self.waits = 0.0, 0.0, 0

    def event(self):
        return Event(self)


class Event:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.at_ms = self.device.clock_ms

    def query(self):
        return self.at_ms <= self.device.passed_ms

    def synchronize(self):
        self.device.waits += 1
        self.device.passed_ms = self.at_ms

    def elapsed_time(self, later):
        assert later.query()
        return later.at_ms - self.at_ms


def test_stretches_add_up_by_name_and_what_lies_before_a_beginning_does_not():
    device = Device()
    laps = DeviceLaps(device.event)
    for _ in range(3):
        device.clock_ms += 1000
        laps.begin()
        device.clock_ms += 20
        laps.end("harvest")
        device.clock_ms += 5
        laps.end("update")
    laps.add("text", 0.5)
    assert laps.totals() == pytest.approx({"harvest": 0.06, "update": 0.015, "text": 0.5})


def test_the_host_waits_only_when_it_is_asked_for_totals():
    device = Device()
    laps = DeviceLaps(device.event)
    for _ in range(4):
        laps.begin()
        device.clock_ms += 7
        laps.end("update")
    assert device.waits == 0
    assert laps.totals() == pytest.approx({"update": 0.028})
    assert device.waits == 1


def test_marks_are_set_on_the_gpu_that_works(monkeypatch):
    class Other(Event):
        def record(self):
            super().record()
            recorded.append(list(current))

    class Current:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            current.append(self.device)

        def __exit__(self, *_raised):
            current.pop()

    recorded, current, device = [], [], Device()
    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: Other(device))
    laps = laps_on(torch.device("cuda:1"))
    laps.begin()
    laps.end("update")
    assert recorded == [[torch.device("cuda:1")]] * 2
    assert current == []


def test_marks_that_the_device_has_passed_are_not_kept():
    device = Device()
    laps = DeviceLaps(device.event)
    for _ in range(100):
        device.clock_ms += 1
        device.passed_ms = device.clock_ms
        laps.end("update")
    assert len(laps._marks) == 1
    assert laps.totals() == pytest.approx({"update": 0.099})


def test_the_host_clock_counts_what_passes():
    laps = HostLaps()
    time.sleep(0.01)
    laps.begin()
    begun = time.perf_counter()
    time.sleep(0.01)
    laps.end("shuffle")
    assert 0.01 <= laps.totals()["shuffle"] <= time.perf_counter() - begun + 1e-3
    assert isinstance(laps_on(torch.device("cpu")), HostLaps)


@pytest.mark.gpu
def test_a_gpus_work_counts_where_it_was_queued():
    laps = laps_on(torch.device("cuda"))
    x = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    laps.begin()
    for _ in range(20):
        x @ x
    laps.end("update")
    laps.end("shuffle")
    found = laps.totals()
    assert found["update"] > 10 * found["shuffle"]
