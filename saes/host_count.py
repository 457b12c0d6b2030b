"""What the host knows of a counter on a device: asking it makes both wait for each other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor


class HostCount:
    """A number that was read of a counter, and how it has grown since; read anew where anything else changed it."""

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._value = 0

    def of(self, counter: Tensor, read: Callable[[Tensor], int]) -> int:
        """What `read` would give, or at least not less than that."""
        if self._seen != state_of(counter):
            self._value, self._seen = read(counter), state_of(counter)
        return self._value

    @contextmanager
    def grows(self, counter: Tensor, most: int) -> Iterator[None]:
        """Inside the block the counter is changed such that the number grows by `most`, or by less."""
        known = self._seen == state_of(counter)
        yield
        if known:
            self._value, self._seen = self._value + most, state_of(counter)

    def forget(self) -> None:
        """Read anew when it is asked for next."""
        self._seen = None


def state_of(counter: Tensor) -> tuple[int, int]:
    """Another one after every write, and for every other tensor."""
    return counter.data_ptr(), counter._version
