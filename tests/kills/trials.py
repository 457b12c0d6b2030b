"""One trial: a run that is killed once or several times, taken up again and compared with an unbroken one."""

import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kills.cases import OUT, Case
from tests.kills.contents import contents, differences
from tests.kills.operations import KILLED
from tests.kills.processes import Ended, run_forked, run_fresh

IN_A_ROW = (1, 1, 1, 2, 2, 3)
BY_OPERATION = 1 / 3
"""Share of the kills that come before a file operation drawn by number instead of at a moment drawn by time: between
two files that belong together lies little time."""
FRESH = 1 / 12
"""Share of the trials whose last continuation is a new interpreter."""


@dataclass(slots=True)
class Reference:
    """An unbroken run of a case: what it left, and what a kill is drawn from. Units: seconds."""

    case: Case
    folder: Path
    held: dict[str, Any]
    seconds: float
    operations: int


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill, as a share of the unbroken run: of its time, or of its file operations."""

    by_operation: bool
    share: float

    def operation(self, reference: Reference) -> int:
        """Number of the operation."""
        return int(self.share * reference.operations)


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill that hit: when, as a share of the unbroken run's time, how it was drawn, what was last written."""

    share: float
    drawn: str
    phase: str
    last_written: str


@dataclass(slots=True)
class Trial:
    """Kills in a row of one run, and what then differed; an empty list if nothing did."""

    case: str
    command: str
    kills: list[Kill] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    fresh: bool = False


def reference_of(case: Case, folder: Path) -> Reference:
    """Run a case unbroken.

    Raises: RuntimeError if it fails.
    """
    at = _new_folder(case, folder / "unbroken")
    told = folder / "operations.txt"
    ended = run_forked(case.start, folder=at, log=folder / "unbroken.log", operations=told)
    if ended.code != 0:
        raise RuntimeError(f"{case.name}: exit code {ended.code}: {(folder / 'unbroken.log').read_text()[-2000:]}")
    return Reference(case, folder, contents(at), ended.seconds, len(told.read_text().splitlines()))


def try_kills(reference: Reference, draw: random.Random, *, name: str, at_most: int) -> Trial:
    """Start, kill, take up again as often as is drawn, then to the end, and compare."""
    fresh = draw.random() < FRESH
    moments = [_drawn(draw, part=0.6 if number else 1.0) for number in range(min(draw.choice(IN_A_ROW), at_most))]
    return try_moments(reference, moments, name=name, fresh=fresh)


def try_moments(reference: Reference, moments: Sequence[Moment], *, name: str, fresh: bool = False) -> Trial:
    """The same at given moments."""
    case = reference.case
    trial = Trial(case.name, case.command, fresh=fresh)
    at, log = _new_folder(case, reference.folder / name), reference.folder / f"{name}.log"
    words, ended = case.start, Ended(None, 0.0)
    for moment in moments:
        ended = _killed(reference, words, moment, at=at, log=log)
        if ended.code is not None:
            break
        trial.kills.append(_kill(reference, moment, ended, at=at, log=log))
        words = case.again
    if ended.code is None:
        ended = (run_fresh if fresh else run_forked)(case.again, folder=at, log=log)
    elif words == case.start:
        # The machine is faster now than it was.
        reference.seconds = ended.seconds
    trial.differs = _compared(reference, at, log, ended)
    if not trial.differs:
        shutil.rmtree(at)
    return trial


def _drawn(draw: random.Random, *, part: float) -> Moment:
    """A continuation is shorter than the whole: only a part of its length is drawn from."""
    return Moment(by_operation=draw.random() < BY_OPERATION, share=draw.random() * part)


def _killed(reference: Reference, words: tuple[str, ...], moment: Moment, *, at: Path, log: Path) -> Ended:
    if moment.by_operation:
        return run_forked(words, folder=at, log=log, at_operation=moment.operation(reference))
    return run_forked(words, folder=at, log=log, after=moment.share * reference.seconds)


def _kill(reference: Reference, moment: Moment, ended: Ended, *, at: Path, log: Path) -> Kill:
    last = _last_written(at / OUT)
    phase = phase_of(reference.case.command, last)
    share = round(min(1.0, ended.seconds / reference.seconds), 3)
    if not moment.by_operation:
        return Kill(share, "time", phase, last)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(KILLED)]
    return Kill(share, f"operation {moment.operation(reference)}", phase, _plain(said[-1]))


def _compared(reference: Reference, at: Path, log: Path, ended: Ended) -> list[str]:
    if ended.code != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        return [f"exit code {ended.code}: {' '.join(last)}"]
    return differences(reference.held, contents(at))


def phase_of(command: str, last: str) -> str:
    """What a run was doing, from the file that it wrote last."""
    if not last:
        return "starting"
    words = {
        r"\.partial": "features: pass",
        r"features": "features: files",
        r"checkpoints": "checkpoint",
        r"/sae\b|^\.?sae\b": "saving the SAE",
        r"metrics\.jsonl": "stepping",
        r"evaluation|results|report": "measuring",
        r"shard": "shard",
        r"sweep\.json": "sweep record",
        r"manifest|config|sweep\.yaml": "manifest",
    }
    found = next((phase for pattern, phase in words.items() if re.search(pattern, last)), last)
    return "starting" if command == "features" and not found.startswith("features") else found


def _last_written(folder: Path) -> str:
    """The file or folder that changed last; empty if there is none."""
    found = [path for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())]
    if not found:
        return ""
    newest = max(found, key=lambda path: path.lstat().st_mtime_ns)
    return _plain(str(newest.relative_to(folder)))


def _plain(text: str) -> str:
    """Without the random part of temporary names."""
    return re.sub(r"\.[0-9a-f]{8}\.tmp", ".tmp", text)


def _new_folder(case: Case, folder: Path) -> Path:
    folder.mkdir(parents=True)
    if case.finds is not None:
        shutil.copytree(case.finds, folder / OUT)
    return folder
