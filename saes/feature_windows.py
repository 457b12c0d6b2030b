"""Pieces of text around chosen firings, as fixed-size records that are read from disk one feature at a time.

Axes: f features, E windows per feature, w window length.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from interp.errors import ArtifactError

KINDS = ("top", "random", "quantile")
Records = Shaped[np.ndarray, "f E"]
RECORD_FIELDS = ("value", "tokens", "acts", "peak", "document", "position")
"""In the order of the fields of Windows."""


@dataclass(frozen=True, slots=True)
class Windows:
    """E windows of every feature; value 0 and tokens -1 where there is none.

    values: activation at the peak, which is window entry `peak` and token `position` of `document`. tokens are -1
    where the document has no more text; acts are the feature's activations on them.
    """

    values: Float[np.ndarray, "f E"]
    tokens: Int[np.ndarray, "f E w"]
    acts: Float[np.ndarray, "f E w"]
    peak: Int[np.ndarray, "f E"]
    document: Int[np.ndarray, "f E"]
    position: Int[np.ndarray, "f E"]

    @staticmethod
    def of(records: Records) -> "Windows":
        """Views of records as fields; nothing is copied."""
        return Windows(*(records[name] for name in RECORD_FIELDS))

    def records(self) -> Records:
        """The same windows as records."""
        out = np.empty(self.values.shape, record_type(self.tokens.shape[2]))
        for name, field in zip(RECORD_FIELDS, Windows.__slots__, strict=True):
            out[name] = getattr(self, field)
        return out

    def part(self, first: int, last: int) -> "Windows":
        """Windows first to last - 1 of every feature, as views."""
        return Windows(*(getattr(self, name)[:, first:last] for name in Windows.__slots__))

    def in_memory(self) -> "Windows":
        """A copy that does not need the file."""
        return Windows(*(np.array(getattr(self, name)) for name in Windows.__slots__))


def record_type(width: int) -> np.dtype[Any]:
    """One window on disk."""
    head = [("value", "<f4"), ("peak", "<i4"), ("document", "<i8"), ("position", "<i4")]
    return np.dtype([*head, ("tokens", "<i4", (width,)), ("acts", "<f2", (width,))])


def empty_records(n_features: int, n_windows: int, width: int) -> Records:
    """Records that say that there is no window."""
    records = np.zeros((n_features, n_windows), record_type(width))
    for name in ("document", "position", "tokens"):
        records[name] = -1
    return records


def iter_strongest(path: Path, layout: Mapping[str, int], d_sae: int, n: int) -> Iterator[Int[np.ndarray, "n w"]]:
    """Tokens of each feature's n strongest windows, read one feature at a time: a mapped file would come in whole."""
    dtype, total = record_type(layout["width"]), sum(layout[kind] for kind in KINDS)
    with path.open("rb") as file:
        for feature in range(d_sae):
            file.seek(feature * total * dtype.itemsize)
            yield np.fromfile(file, dtype, min(n, layout["top"]))["tokens"]


def map_windows(path: Path, d_sae: int, layout: Mapping[str, int]) -> dict[str, Windows]:
    """The windows of each kind, mapped into memory: reading one feature touches its records only.

    Raises: ArtifactError if the file is missing or has another size than the layout says.
    """
    if not {*KINDS, "width"} <= set(layout):
        raise ArtifactError(f"{path}: features.json gives no layout of its windows; collect the features again")
    total, dtype = sum(layout[kind] for kind in KINDS), record_type(layout["width"])
    size = path.stat().st_size if path.is_file() else 0
    if size != d_sae * total * dtype.itemsize:
        raise ArtifactError(
            f"{path}: got {size:,} bytes; expected {d_sae * total * dtype.itemsize:,}; collect the features again"
        )
    found, first = {}, 0
    # An empty file cannot be mapped.
    records = np.memmap(path, dtype, "r", shape=(d_sae, total)) if size else np.zeros((d_sae, total), dtype)
    for kind in KINDS:
        found[kind] = Windows.of(records[:, first : first + layout[kind]])
        first += layout[kind]
    return found
