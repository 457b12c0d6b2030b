"""Where the time of a loop goes: stretches one after another, each counted under a name.

On a GPU the stretches are those of the device, between marks in its queue: the host runs ahead of it, and waits for it
only when somebody asks for the totals.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

import torch


class Laps(ABC):
    """Seconds by name, ever growing. The stretch from `begin` on, or from the last `end`, counts under what ends it."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @abstractmethod
    def begin(self) -> None:
        """Go on from here; what passed since the last `end` is not counted."""

    @abstractmethod
    def end(self, name: str) -> None:
        """Count what passed since the last mark."""

    def add(self, name: str, seconds: float) -> None:
        """Count what somebody else measured."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def totals(self) -> dict[str, float]:
        """All that was counted so far. Waits for the device where there is one."""
        return dict(self._seconds)


class HostLaps(Laps):
    """By the host's clock."""

    def __init__(self) -> None:
        super().__init__()
        self._since = time.perf_counter()

    def begin(self) -> None:
        self._since = time.perf_counter()

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.add(name, now - self._since)
        self._since = now


class DeviceLaps(Laps):
    """By a GPU's clock: marks are events in its current stream, read once they are past.

    Which GPU is told by `device`, by default the current one.
    """

    def __init__(self, event: Callable[[], Any] | None = None, *, device: torch.device | int = -1) -> None:
        super().__init__()
        self._device = device
        self._event = event or (lambda: torch.cuda.Event(enable_timing=True))
        self._marks: deque[tuple[str | None, Any]] = deque()

    def begin(self) -> None:
        self._mark(None)

    def end(self, name: str) -> None:
        self._mark(name)

    def _mark(self, name: str | None) -> None:
        event = self._event()
        # An event is recorded in a stream of the current GPU, which need not be the one that works.
        with torch.cuda.device(self._device):
            event.record()
        self._marks.append((name, event))
        # What is past already need not be kept.
        while len(self._marks) > 1 and self._marks[1][1].query():
            self._read_first()

    def _read_first(self) -> None:
        _, before = self._marks.popleft()
        name, event = self._marks[0]
        if name is not None:
            self.add(name, before.elapsed_time(event) / 1000)

    def totals(self) -> dict[str, float]:
        if self._marks:
            self._marks[-1][1].synchronize()
        while len(self._marks) > 1:
            self._read_first()
        return super().totals()


def laps_on(device: torch.device) -> Laps:
    """A clock for work on this device."""
    return DeviceLaps(device=device) if device.type == "cuda" else HostLaps()
