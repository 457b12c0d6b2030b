"""Making items ahead changes when they are made and nothing else."""

import itertools
import subprocess
import sys
import threading
import time

import pytest
import torch

from interp.activations.ahead import iter_ahead
from interp.errors import NonFiniteError


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == "interp ahead"]


def _until(true, seconds=20.0):
    """Wait for what another thread is about to do; how long that takes says nothing."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.001)
    return true()


@pytest.mark.parametrize("n_ahead", [0, 1, 3, 100])
def test_items_and_their_order_are_those_of_the_iterator(n_ahead):
    assert list(iter_ahead(lambda: iter(range(50)), n_ahead)) == list(range(50))
    assert _threads() == []


def test_no_more_are_made_than_there_is_room_for():
    made = []
    items = iter_ahead(lambda: (made.append(i) or i for i in itertools.count()), 3)
    assert next(items) == 0
    # Three on the shelf, and one in hand that waits for room.
    assert _until(lambda: len(made) == 5)
    time.sleep(0.02)
    assert len(made) == 5
    items.close()


def test_what_the_iterator_raises_comes_where_it_would_have():
    def broken():
        yield from range(4)
        raise NonFiniteError("blocks.0: NaN")

    items = iter_ahead(broken, 2)
    assert list(itertools.islice(items, 4)) == [0, 1, 2, 3]
    with pytest.raises(NonFiniteError, match=r"^blocks\.0: NaN$"):
        next(items)
    assert _threads() == []


def test_what_cannot_even_begin_is_told_at_the_first_item():
    def make():
        raise NonFiniteError("at once")

    with pytest.raises(NonFiniteError, match="at once"):
        next(iter_ahead(make, 2))


@pytest.mark.parametrize("how", ["closed", "dropped", "interrupted"])
def test_the_thread_ends_when_nobody_takes_any_more(how):
    ended = []

    def endless():
        try:
            yield from itertools.count()
        finally:
            ended.append(True)

    items = iter_ahead(endless, 2)
    next(items)
    assert len(_threads()) == 1
    if how == "closed":
        items.close()
    elif how == "dropped":
        del items
    else:
        with pytest.raises(KeyboardInterrupt):
            items.throw(KeyboardInterrupt)
    assert _threads() == []
    assert ended == [True]


@pytest.mark.slow
def test_a_program_ends_though_an_iterator_is_still_held():
    code = (
        "import itertools, sys\n"
        "from interp.activations.ahead import iter_ahead\n"
        "held = iter_ahead(itertools.count, 2)\n"
        "next(held)\n"
        "raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 7


def test_random_state_is_nobody_elses_business():
    torch.manual_seed(5)
    wanted = torch.rand(4)
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(1)
    items = iter_ahead(lambda: (torch.randperm(9, generator=generator) for _ in range(9)), 4)
    next(items)
    assert torch.equal(torch.rand(4), wanted)
    items.close()


def test_its_work_is_told_with_each_item():
    def slow():
        for i in range(3):
            time.sleep(0.01)
            yield i

    told = []
    list(iter_ahead(slow, 1, on_busy=told.append))
    assert len(told) == 3
    assert min(told) >= 0.01


def test_a_thread_within_a_thread_may_drop_the_outer_one():
    """As garbage collection does, which may run in any thread."""
    held, may_drop = [], threading.Event()

    def inner():
        yield 1
        may_drop.wait()
        held.pop().close()
        yield 2

    held.append(iter_ahead(lambda: iter_ahead(inner, 1), 1))
    assert next(held[0]) == 1
    may_drop.set()
    assert _until(lambda: not _threads())
