"""stopped.json: why a run ended before its last step. There only between that end and the run's continuation."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from interp.errors import ArtifactError, StorageError
from interp.storage import read_json, write_json

NAME = "stopped.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Stop:
    """What ended a run, and when."""

    reason: str
    interrupted: bool
    time_unix: float
    schema_version: int = SCHEMA_VERSION


def note_stop(run_folder: Path, error: BaseException) -> None:
    """Write down what ends a run. A disk that is full keeps it from being written, which is no second failure."""
    # A generator is closed by whoever drives it: something else ended the run, most often the keyboard.
    interrupted = isinstance(error, KeyboardInterrupt | GeneratorExit)
    reason = " ".join(str(error).split()) or type(error).__name__
    try:
        write_json(run_folder / NAME, asdict(Stop(reason, interrupted, round(time.time(), 3))))
    except StorageError:
        return


def forget_stop(run_folder: Path) -> None:
    """A run goes on: what stopped it holds no more."""
    (run_folder / NAME).unlink(missing_ok=True)


def read_stop(run_folder: Path) -> Stop | None:
    """What ended the run, if something did."""
    try:
        return Stop(**read_json(run_folder / NAME))
    except (ArtifactError, TypeError, json.JSONDecodeError):
        return None
