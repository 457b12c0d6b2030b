"""Data sets of the hub, read as a stream: nothing is downloaded whole, and reading goes on where it stopped."""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub.utils import logging as hub_logging

from interp.errors import DataError, MissingDependencyError

Place = dict[str, int]
"""Where a stream stands: the numbers of its state by dotted name, so that a cursor can hold them."""


class HubStream:
    """Records of a hub data set's training split (or of a folder that `datasets` reads), from any place on."""

    def __init__(self, name: str) -> None:
        """Raises: DataError if the hub does not give it; MissingDependencyError without the datasets package."""
        self.name = name
        self._stream, files = _open(name)
        # The hub's file names hold the commit.
        self.content_hash = hashlib.sha256("\n".join([name, *files]).encode()).hexdigest()

    def iter_from(self, place: Mapping[str, int]) -> Iterator[tuple[Place, Any]]:
        """Records, each with the place behind it; {} is the beginning.

        Raises: DataError if a record cannot be had, or the data set's state is of a kind that cannot be kept.
        """
        # A copy, since a data set remembers the state that it was told to begin at.
        stream = copy.deepcopy(self._stream)
        if place:
            stream.load_state_dict(_nested(place))
        records = iter(stream)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except (OSError, ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:160]
                raise DataError(f"{self.name}: reading on failed ({reason}); go on with --resume") from None
            yield _flat(stream.state_dict(), self.name), record


def former_hash(name: str) -> str:
    """What runs recorded of a hub data set before its files were: the name alone, so that it cannot tell versions."""
    return hashlib.sha256(f"{name}@".encode()).hexdigest()


def _open(name: str) -> tuple[Any, list[str]]:
    """The stream and the addresses of its files."""
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError(
            f"{name}: no such file or folder; reading it from the hub needs `pip install interp-workbench[hub]`"
        ) from None
    # They would tell of every retry; what matters is raised.
    datasets.logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        builder = datasets.load_dataset_builder(name)
        files = builder.config.data_files or {}
        return builder.as_streaming_dataset(split="train"), sorted(str(file) for file in files.get("train", ()))
    except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{name}: no such file or folder, and the hub did not give it ({reason})") from None


def _flat(state: Mapping[str, Any], name: str, prefix: str = "") -> Place:
    """The numbers of a nested state; names of classes are the same for the same data set and are left out."""
    found: Place = {}
    for key, value in state.items():
        if isinstance(value, Mapping):
            found |= _flat(value, name, f"{prefix}{key}.")
        elif isinstance(value, int):
            found[f"{prefix}{key}"] = int(value)
        elif value is not None and not isinstance(value, str):
            raise DataError(
                f"{name}: its place cannot be kept ({prefix}{key} is a {type(value).__name__}); copy it first"
            )
    return found


def _nested(place: Mapping[str, int]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for dotted, value in place.items():
        *parents, last = dotted.split(".")
        inner = state
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return state
