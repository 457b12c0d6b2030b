"""Items made ahead in a thread, while whoever uses them does something else.

The items and their order are those of the plain iterator; what it raises is raised where its next item would have come.
The thread ends when it has nothing left to make, when the one who uses them stops, and when the program ends.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
PATIENCE_SECONDS = 0.5
"""How long a thread with nothing to do waits before it looks whether the program is still there."""
LAST_ITEM_SECONDS = 60.0
"""How long the one who stops waits for the item in the making."""


def iter_ahead(
    make: Callable[[], Iterator[T]], n_ahead: int, *, on_busy: Callable[[float], None] | None = None
) -> Generator[T]:
    """What `make()` gives, up to `n_ahead` items made before they are asked for; 0: no thread.

    `on_busy` is told, with each item, the seconds that the thread took to make it.
    Raises: whatever the iterator raises, after the items that came before it.
    """
    if n_ahead == 0:
        yield from make()
        return
    shelf, user = _Shelf(make, n_ahead), threading.current_thread()
    thread = threading.Thread(target=shelf.fill, args=(_current_gpu(),), name="interp ahead")
    thread.start()
    try:
        while (made := shelf.take()) is not None:
            item, seconds = made
            if on_busy is not None:
                on_busy(seconds)
            yield item
    finally:
        shelf.leave()
        # Garbage may be collected in any thread, also in one that this thread waits for.
        if threading.current_thread() is user:
            thread.join(LAST_ITEM_SECONDS)


class _Shelf(Generic[T]):
    """What was made and not yet taken."""

    def __init__(self, make: Callable[[], Iterator[T]], room: int) -> None:
        self._make, self._room = make, room
        self._changed = threading.Condition()
        self._items: deque[tuple[T, float]] = deque()
        self._ended, self._left = False, False
        self._error: BaseException | None = None

    def fill(self, gpu: int | None) -> None:
        """Make items until there are no more, or nobody wants them. The thread's work."""
        if gpu is not None:
            # Every thread begins on the first GPU.
            torch.cuda.set_device(gpu)
        try:
            items, begun = self._make(), time.perf_counter()
            for item in items:
                if not self._put(item, time.perf_counter() - begun):
                    break
                begun = time.perf_counter()
        except BaseException as error:  # noqa: BLE001 (raised again by the one who takes)
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: T, seconds: float) -> bool:
        with self._changed:
            while len(self._items) >= self._room and not self._left:
                self._changed.wait(PATIENCE_SECONDS)
                self._left = self._left or not threading.main_thread().is_alive()
            if not self._left:
                self._items.append((item, seconds))
                self._changed.notify_all()
            return not self._left

    def take(self) -> tuple[T, float] | None:
        """The next item and the seconds that it took; None after the last.

        Raises: what the iterator raised.
        """
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait()
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
        if self._error is not None:
            raise self._error
        return None

    def leave(self) -> None:
        """Nothing more will be taken."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()


def _current_gpu() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None
