"""What a sweep's shared batches took, by the clock of the device that made them."""

import pytest
import torch

from interp.activations.blocks import ShuffledActivations
from interp.code import ActivationBatch
from interp.timing import Laps
from saes.sweep import SharedBatches

HARVEST, SHUFFLE, STEPS = 5.0, 0.25, 100.0


class Clock(Laps):
    """The clock of a device whose work takes what the test says, however long the host takes to queue it."""

    def __init__(self):
        super().__init__()
        self.now = self._since = 0.0

    def begin(self):
        self._since = self.now

    def end(self, name):
        self.add(name, self.now - self._since)
        self._since = self.now


class Source:
    """Chunks of 8 tokens, each of which takes the device as long."""

    widths = {"x": 2}

    def __init__(self, clock):
        self.clock, self.n_made = clock, 0

    def iter_from(self, cursor):
        while True:
            self.clock.now += HARVEST
            self.n_made += 1
            index = torch.zeros(8, dtype=torch.int64)
            yield {"chunk": self.n_made}, ActivationBatch({"x": torch.zeros(8, 2)}, index, index, index)


class Slow(ShuffledActivations):
    """Every batch takes the device as long to gather."""

    def __next__(self):
        batch = super().__next__()
        self.laps.now += SHUFFLE
        return batch


@pytest.mark.parametrize("warm", [False, True])
def test_members_steps_are_not_counted_and_queued_work_is(warm):
    clock = Clock()
    source = Source(clock)
    shared = SharedBatches(Slow(source, batch_size=4, block_tokens=16, seed=0, laps=clock))
    if warm:
        shared.warm()
        clock.now += STEPS
        assert shared.seconds == pytest.approx(2 * HARVEST)
    for n_taken in range(1, 11):
        shared.fetch()
        clock.now += STEPS
        assert shared.seconds == pytest.approx(source.n_made * HARVEST + n_taken * SHUFFLE)
    assert source.n_made == 6
