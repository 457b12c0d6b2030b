"""Tensors from files that others wrote, read without running anything in them, and checked."""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import ArtifactError

NPZ_ERRORS = (
    OSError, ValueError, TypeError, EOFError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
"""What numpy and zipfile raise for a damaged archive; for one that is encrypted or packed in an unknown way, a
RuntimeError."""


def read_torch(path: Path) -> dict[str, Any]:
    """The mapping in a .pt file, by the unpickler that knows tensors and plain values only.

    Raises: ArtifactError if the file is missing, damaged or holds anything else.
    """
    try:
        _check_begins(path, (b"PK", b"\x80"), ".pt file")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"{path.name}: no such file; check the path") from None
    except torch.serialization.pickle.UnpicklingError:  # type: ignore[attr-defined]
        raise ArtifactError(
            f"{path.name}: holds more than tensors, which would have to be run to be read; "
            "save the state dict alone in a version of its library that you trust"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path.name}: not a whole .pt file ({_line(error)}); it is damaged or truncated") from None
    if not isinstance(loaded, dict):
        raise ArtifactError(f"{path.name}: got a {type(loaded).__name__}; expected a state dict of named tensors")
    return loaded


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of a .npz file; pickled objects in it are refused.

    Raises: ArtifactError if the file is missing, damaged or holds anything else than numbers.
    """
    try:
        _check_begins(path, (b"PK",), ".npz file")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except FileNotFoundError:
        raise ArtifactError(f"{path.name}: no such file; check the path") from None
    except NPZ_ERRORS as error:
        raise ArtifactError(f"{path.name}: not an archive of arrays ({_line(error)}); it is damaged") from None


def checked(
    tensors: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], *, ignored: Iterable[str] = ()
) -> dict[str, Tensor]:
    """The tensors named in `shapes`, at least float32; `ignored` ones may be there too.

    Raises: ArtifactError naming the first that is missing, unknown, of another shape, or not finite.
    """
    names = set(tensors) - set(ignored)
    if set(shapes) != names:
        name = sorted(set(shapes) ^ names)[0]
        fault = "is missing" if name in shapes else "does not belong there"
        raise ArtifactError(f"weights: tensor {name} {fault}; expected {', '.join(shapes)}")
    return {name: _checked(name, tensors[name], shape) for name, shape in shapes.items()}


def _checked(name: str, tensor: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or not tensor.is_floating_point():
        got = type(tensor).__name__
        if isinstance(tensor, Tensor):
            got = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        raise ArtifactError(
            f"weights: {name}: got {got}; its config and the other tensors say {shape} numbers; "
            "they do not belong together"
        )
    if not bool(torch.isfinite(tensor).all()):
        n_bad = int((~torch.isfinite(tensor)).sum())
        raise ArtifactError(f"weights: {name}: {n_bad} of {tensor.numel()} entries are NaN or infinite; train it again")
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def size(tensors: Mapping[str, Any], name: str, axis: int) -> int:
    """Length of one axis of a tensor that says how large the others have to be.

    Raises: ArtifactError if there is no such matrix.
    """
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.ndim != 2:
        raise ArtifactError(f"weights: tensor {name} is missing or no matrix; got {', '.join(map(str, tensors))}")
    return tensor.shape[axis]


def positive(values: Mapping[str, Any], name: str, *, where: str) -> int:
    """A whole number above zero from a config.

    Raises: ArtifactError if it is anything else.
    """
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArtifactError(f"{where}: {name}: got {value!r}; expected a positive number")
    return value


def _check_begins(path: Path, marks: tuple[bytes, ...], what: str) -> None:
    """Raises: ArtifactError if the file's first bytes are none of the kind's: most often a pointer to the real file."""
    with path.open("rb") as file:
        begin = file.read(64)
    if begin.startswith(b"version https://git-lfs"):
        raise ArtifactError(f"{path.name}: a pointer of git-LFS instead of the {what}; fetch it with `git lfs pull`")
    if not begin.startswith(marks):
        raise ArtifactError(f"{path.name}: not a {what} (it begins with {begin[:12]!r}); fetch or save it again")


def mapping(values: Mapping[str, Any], name: str, *, where: str) -> Mapping[str, Any]:
    """A mapping from a config; empty where there is none.

    Raises: ArtifactError if it is anything else.
    """
    value = values.get(name)
    if not isinstance(value, dict | None):
        raise ArtifactError(f"{where}: {name}: got {value!r}; expected a mapping")
    return value or {}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
