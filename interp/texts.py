"""Texts to apply a finished analysis to: files as people have them, or standard input."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from interp.documents import open_documents
from interp.errors import DataError
from interp.storage import is_there

Unit = Literal["line", "paragraph", "file"]
"""What is one document in plain text."""
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents in order. `n_documents` is None where it shows only at the end."""

    name: str
    n_documents: int | None
    _read: Callable[[], Iterator[str]] = field(repr=False)

    def __iter__(self) -> Iterator[str]:
        return self._read()


def open_texts(name: str, *, unit: Unit = "line", text_field: str = "text") -> Texts:
    """Open "-" (standard input), a .txt file or a folder of them, or whatever `open_documents` reads.

    `unit` says what a document is in plain text; elsewhere each record's `text_field` is one. With lines, an empty
    line is an empty document, so that documents have the numbers of their lines.

    Raises: DataError if nothing is there or nothing in it can be read.
    """
    if name == STANDARD_INPUT:
        return Texts("standard input", None, lambda: _from_stream(sys.stdin.buffer, "standard input", unit))
    files = _plain_files(Path(name))
    if files and unit != "paragraph":
        return _counted(name, lambda: (text for path in files for text in _from_file(path, unit)))
    documents = open_documents(name, text_field=text_field)
    if is_there(Path(name)) or name == "embedded":
        return _counted(name, lambda: (text for _, text in documents.iter_from()))
    return Texts(name, None, lambda: (text for _, text in documents.iter_from()))


def _counted(name: str, read: Callable[[], Iterator[str]]) -> Texts:
    # Reading once beforehand costs next to nothing beside a model, and tells of damage before hours are spent.
    return Texts(name, sum(1 for _ in read()), read)


def _plain_files(path: Path) -> list[Path]:
    """The file, or the folder's files, if all of them are plain text."""
    if not is_there(path):
        return []
    files = sorted(child for child in path.iterdir() if child.is_file()) if path.is_dir() else [path]
    return files if all(file.suffix == ".txt" for file in files) else []


def _from_file(path: Path, unit: Unit) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            yield from _from_stream(file, str(path), unit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _from_stream(stream: Iterable[bytes], name: str, unit: Unit) -> Iterator[str]:
    lines = _decoded(stream, name)
    if unit == "file":
        yield "".join(lines)
    elif unit == "line":
        yield from (line.rstrip("\r\n") for line in lines)
    else:
        yield from _paragraphs(lines)


def _decoded(stream: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}, line {number}: not UTF-8 text (byte {error.start}); convert it first") from None


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield "".join(held).rstrip("\r\n")
            held = []
    if held:
        yield "".join(held).rstrip("\r\n")
