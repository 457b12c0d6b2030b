"""Commands in children that cost little: everything is imported once, each command is a fork of that process."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, Popen

import torch

from tests.kills.operations import watch_operations

IMPORTED = (
    *(f"interp.cli.{name}" for name in ("train", "sweep", "collect", "features")),
    "transformers.models.llama.modeling_llama",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code, none if it was killed. Units: seconds since its start."""

    code: int | None
    seconds: float


def prepare() -> None:
    """Import what commands need, with one thread: a fork takes no other threads along.

    Raises: RuntimeError if an import has started threads.
    """
    torch.set_num_threads(1)
    for name in IMPORTED:
        import_module(name)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"got {threads} threads after importing; expected one: set OMP_NUM_THREADS=1")


def run_forked(
    words: tuple[str, ...],
    *,
    folder: Path,
    log: Path,
    after: float | None = None,
    at_operation: int | None = None,
    operations: Path | None = None,
) -> Ended:
    """Run `interp` with these words in a folder, until it ends or is killed.

    It is killed `after` seconds, or just before its file operation of that number, counted from 0. What operations it
    did is written to the file `operations`.
    """

    def work() -> int:
        from interp.cli import main

        os.chdir(folder)
        # As in a new interpreter: whatever drew from what was not seeded would show.
        torch.seed()
        sys.argv = ["interp", *words]
        with watch_operations(operations, stop_at=at_operation):
            return main(list(words))

    return _until(forked(work, log), after)


def run_fresh(words: tuple[str, ...], *, folder: Path, log: Path) -> Ended:
    """As `run_forked`, in a new interpreter: nothing is inherited, sets of strings have another order."""
    root = str(Path(__file__).parents[2])
    with log.open("ab") as file:
        process = Popen(
            [sys.executable, "-m", "interp", *words],
            cwd=folder, stdin=DEVNULL, stdout=file, stderr=file, env=os.environ | {"PYTHONPATH": root},
        )  # fmt: skip
    ended = _until(process.pid, None)
    process.returncode = ended.code
    return ended


def forked(work: Callable[[], int], log: Path) -> int:
    """A child that does `work`, tells on the log and exits with what it gives; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    if process := os.fork():
        return process
    code = 70
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = work()
    except BaseException:  # noqa: BLE001 - a child must never go on with its parent's work
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def call_forked(work: Callable[[], object], log: Path) -> None:
    """Do `work` in a child.

    Raises: RuntimeError with the child's last words if it failed.
    """

    def done() -> int:
        work()
        return 0

    if _until(forked(done, log), None).code != 0:
        raise RuntimeError(log.read_text(errors="replace")[-2000:])


def _until(process: int, after: float | None) -> Ended:
    begun = time.perf_counter()
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        seconds = time.perf_counter() - begun
        if found:
            return Ended(os.WEXITSTATUS(status) if os.WIFEXITED(status) else None, seconds)
        if after is not None and seconds >= after:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return Ended(None, seconds)
        time.sleep(0.001 if after is None else min(0.001, max(0.0, after - seconds)))
