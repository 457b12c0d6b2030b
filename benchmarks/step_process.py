"""A library at work in a process of its own."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import peer_python

HERE = Path(__file__).parent


@dataclass(slots=True)
class Worker:
    """A library at work in its own process, with what it has answered so far."""

    process: subprocess.Popen[str]
    seconds: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)
    l0: list[float] = field(default_factory=list)
    moments: dict[str, float] = field(default_factory=dict)

    def ask(self, *, timed: bool = True, **request: Any) -> list[float]:
        """Let it work; its answer is added to what is known, timed or not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended early; its message is on standard error")
        answer = json.loads(line)
        if timed:
            self.seconds += answer["seconds"]
        self.terms += answer["terms"]
        self.counts = answer["counts"]
        self.l0 += [answer["l0"]] if "l0" in answer else []
        self.moments = answer.get("moments", self.moments)
        return list(answer["seconds"])


@contextmanager
def worker(library: str, folder: Path, settings: Mapping[str, Any], options: argparse.Namespace) -> Iterator[Worker]:
    """Start a library on a task and end it afterwards."""
    python = sys.executable if library == "ours" else str(peer_python())
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": str(HERE.parent)}
    arguments = [library, str(folder), json.dumps(dict(settings)), str(options.threads), options.device, options.clock]
    process = subprocess.Popen(
        [python, str(HERE / "step_worker.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
