"""Text as a numbered sequence of documents, whatever file or hub data set it comes from."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from interp.chat import parse_conversation
from interp.errors import DataError
from interp.hub_documents import HubStream, Place
from interp.storage import is_there

EMBEDDED_CORPUS = Path(__file__).parent / "assets" / "corpus.jsonl.gz"
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Documents:
    """A data set whose documents are numbered from 0 and can be read from any number on.

    A document is its text; one that is a chat is a Conversation, which is text too.
    """

    name: str
    content_hash: str
    _read: Callable[[Mapping[str, int]], Iterator[tuple[Place, str]]] = field(repr=False)

    def iter_from(self, document: int = 0) -> Iterator[tuple[int, str]]:
        """Documents with their number, starting at `document`."""
        return ((number, text) for number, text, _ in self.iter_places(document))

    def iter_places(
        self, document: int = 0, place: Mapping[str, int] | None = None
    ) -> Iterator[tuple[int, str, Place]]:
        """The same, each with the place behind it, from which a stream goes on without reading what came before.

        `place` is one that stood beside document - 1; files have none ({}) and are read again.
        """
        read = self._read(place) if place else islice(self._read({}), document, None)
        numbered = enumerate(read, start=document)
        return ((number, text, behind) for number, (behind, text) in numbered)


def open_documents(name: str, *, text_field: str = "text") -> Documents:
    """Open "embedded", a file or folder of .txt, .jsonl(.gz) or .parquet, or a hub data set's training split.

    In .txt files documents are separated by blank lines; elsewhere each record's `text_field` is a document: text, or a
    list of {"role", "content"}, which is a conversation.
    Raises: DataError if nothing is there or nothing in it can be read.
    """
    if not name:
        raise DataError('dataset: got an empty name; give "embedded", a file, a folder or a hub name')
    path = EMBEDDED_CORPUS if name == "embedded" else Path(name)
    if is_there(path):
        files = _files(path)
        content_hash = _hash_of(files)
        return Documents(name, content_hash, lambda _: (({}, text) for text in _read_files(files, text_field)))
    if name == "embedded" or path.is_absolute() or name.startswith(".") or path.suffix in (".txt", ".jsonl", ".gz"):
        raise DataError(f"{path}: no such file or folder; give a .txt, .jsonl or .parquet file, or a hub name")
    stream = HubStream(name)
    return Documents(
        name,
        stream.content_hash,
        lambda place: ((behind, _text_of(record, text_field, name)) for behind, record in stream.iter_from(place)),
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise DataError(f"{path}: cannot read {path.suffix or 'a file without a suffix'}; expected {_SUFFIX_LIST}")
        return [path]
    with _readable(path):
        files = sorted(child for child in path.iterdir() if child.is_file() and child.name.endswith(SUFFIXES))
    if not files:
        raise DataError(f"{path}: this folder holds no text; expected files ending in {_SUFFIX_LIST}")
    return files


_SUFFIX_LIST = ", ".join(SUFFIXES)


def _hash_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with _readable(path), path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def _read_files(files: list[Path], text_field: str) -> Iterator[str]:
    for path in files:
        with _readable(path):
            if path.suffix == ".parquet":
                yield from _read_parquet(path, text_field)
            elif path.suffix == ".txt":
                yield from _read_paragraphs(path)
            else:
                yield from _read_lines(path, text_field)


class _readable:
    """Turns what goes wrong while reading `path` into a DataError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{self._path}: not UTF-8 text (byte {error.start}); convert it first") from None
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise DataError(f"{self._path}: damaged or truncated gzip file; make or fetch it again") from None
        if isinstance(error, OSError):
            raise DataError(f"{self._path}: cannot be read ({error.strerror or error})") from None


def _read_paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines).rstrip("\n")
                lines = []
    if lines:
        yield "".join(lines).rstrip("\n")


def _read_lines(path: Path, text_field: str) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{where}: not valid JSON ({str(error)[:80]}); expected one object a line") from None
            yield _text_of(record, text_field, where)


def _read_parquet(path: Path, text_field: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if text_field not in names:
            raise DataError(f"{path}: no column {text_field!r}; it has {', '.join(names)}; give --data.text-field")
        for batch in file.iter_batches(batch_size=1024, columns=[text_field]):
            for text in batch.column(0).to_pylist():
                yield _text_of({text_field: text}, text_field, str(path))
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a whole Parquet file ({' '.join(str(error).split())[:120]})") from None


def _text_of(record: Any, text_field: str, where: str) -> str:
    if not isinstance(record, dict) or text_field not in record:
        keys = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise DataError(f"{where}: no field {text_field!r} (got {keys}); name the right one with --data.text-field")
    text = record[text_field]
    if isinstance(text, list):
        text = parse_conversation(text, where)
    if not isinstance(text, str):
        raise DataError(
            f"{where}: field {text_field!r} holds {type(text).__name__}; expected text, or a list of messages"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: half a surrogate pair at character {error.start}; repair the text") from None
    return text
