"""File operations of this process within its folder: counted, told, or the moment at which it is killed."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
KILLED = "killed before"


@contextmanager
def watch_operations(told: Path | None, *, stop_at: int | None) -> Iterator[None]:
    """Count operations; kill this process before number `stop_at`; write what they were to the file `told`.

    A hook can never be taken off again: use it in a child that ends with the block.
    """
    if told is None and stop_at is None:
        yield
        return
    here, seen, on = f"{os.getcwd()}{os.sep}", list[str](), True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if on and (name := _changed(event, arguments, here)) is not None:
            if len(seen) == stop_at:
                os.write(2, f"{KILLED} {name}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(name)

    sys.addaudithook(hook)
    yield
    on = False
    if told is not None:
        told.write_text("".join(f"{name}\n" for name in seen))


def _changed(event: str, arguments: tuple[Any, ...], here: str) -> str | None:
    """What an event changes within the folder `here`, in words; none if it does not."""
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    if not (writes or event in CHANGES) or isinstance(arguments[0], int):
        return None
    path = os.fsdecode(arguments[0])
    if os.path.isabs(path) and not path.startswith(here):
        return None
    return f"{event.removeprefix('os.')} {path.removeprefix(here)}"
