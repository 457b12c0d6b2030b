"""Files that are whole or absent: temporary name, fsync, rename. Damage and full disks are told in one line."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from interp.errors import ArtifactError, StorageError


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {_reason(error)}") from None
    except SafetensorError as error:
        raise StorageError(f"{path}: cannot be written ({error}); free some space or choose another --out") from None


def is_there(path: Path) -> bool:
    """Whether a path exists.

    Raises: StorageError if that cannot be told (a name too long, a folder that may not be read).
    """
    try:
        return path.exists()
    except OSError as error:
        raise StorageError(f"{str(path)[:120]}: cannot be looked at ({error.strerror}); check the path") from None


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another --out (what was already saved is intact)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "cannot be written (permission denied); choose another --out or change the folder's permissions"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "cannot be made: a file stands where a folder is needed; choose another --out"
    return f"cannot be written ({error.strerror or error})"


def make_folder(path: Path) -> Path:
    """Make a folder and its parents; fine if it is there.

    Raises: StorageError if it cannot be made or written.
    """
    with told(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "not writable")
    return path


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one indivisible step.

    Raises: StorageError if the disk is full or the folder cannot be written; the old file is then untouched.
    """
    temporary = _temporary(path, path.parent)
    with told(path):
        try:
            with temporary.open("wb") as file:
                _mark_held(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            _sync_folder(path.parent)
            _clear_leftovers(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 text, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by JSON, as `write_bytes` does. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Replace `path` by a safetensors file, as `write_bytes` does, and give its SHA-256."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = dump_tensors(flat)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def holds_text(path: Path, text: str) -> bool:
    """Whether a file holds just this text."""
    return path.is_file() and path.read_bytes() == text.encode("utf-8")


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises: ArtifactError if the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: {_unreadable(error)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); the file is damaged, make it again") from None


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file, checked against its hash where one is known.

    Raises: ArtifactError naming the file if it is missing, truncated or changed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {_unreadable(error)}") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ArtifactError(f"{path}: content differs from the hash recorded when it was written; it is damaged")
    try:
        return load_tensors(data)
    except SafetensorError as error:
        raise ArtifactError(f"{path}: not a whole safetensors file ({error}); it is damaged or truncated") from None


def _unreadable(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "no such file; check the path"
    return f"cannot be read ({error.strerror or error})"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces.

    Raises: ArtifactError if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    except OSError as error:
        raise ArtifactError(f"{path}: {_unreadable(error)}") from None
    return digest.hexdigest()


@contextmanager
def new_folder(path: Path, *, within: Path | None = None) -> Iterator[Path]:
    """A folder that appears under its name only when the block ended well; it then replaces an older one.

    It grows beside its place, or `within` another folder of the same disk.

    Raises: StorageError if it cannot be written; nothing is then left behind.
    """
    temporary = _temporary(path, within or path.parent)
    restore_folder(path)
    with told(path):
        temporary.mkdir(parents=True)
    try:
        with _held(temporary):
            yield temporary
            with told(path):
                _sync_folder(temporary)
                # Two renames: the older folder is whole on disk, here or aside, until the new one stands in its place.
                if path.is_dir():
                    path.replace(_aside(path))
                temporary.replace(path)
                _sync_folder(path.parent)
                _clear_leftovers(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        restore_folder(path)


def restore_folder(path: Path) -> None:
    """Put back the older folder that a kill left aside while `new_folder` replaced it; remove it if that was done.

    Raises: StorageError if it cannot be put back.
    """
    aside = _aside(path)
    with told(path):
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        elif aside.exists():
            aside.replace(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name to write at; the file appears under its own only when the block ended well.

    Raises: StorageError if it cannot be put there; nothing is then left behind.
    """
    temporary = _temporary(path, path.parent)
    with told(path):
        temporary.touch()
    try:
        with _held(temporary):
            yield temporary
            with told(path):
                with temporary.open("rb") as file:
                    if os.fstat(file.fileno()).st_size == 0:
                        raise OSError(errno.ENODATA, "nothing was written")
                    os.fsync(file.fileno())
                temporary.replace(path)
                _sync_folder(path.parent)
                _clear_leftovers(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path, folder: Path) -> Path:
    return folder / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"


@contextmanager
def _held(temporary: Path) -> Iterator[None]:
    """Mark what grows under a temporary name as somebody's."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        _mark_held(descriptor)
        yield
    finally:
        os.close(descriptor)


def _mark_held(descriptor: int) -> None:
    """The mark goes with the process, however that ends."""
    # A file system without locks: what a kill leaves then stays.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _clear_leftovers(path: Path) -> None:
    """Remove what killed writers of the same path left beside it; what a living one holds stays."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for left in path.parent.iterdir():
        if not name.fullmatch(left.name):
            continue
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
