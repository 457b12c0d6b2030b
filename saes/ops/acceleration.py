"""Whether a tensor's work goes through the triton kernels or the eager operators, which say the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["auto", "eager", "triton"]
_mode: Mode = "auto"


@cache
def has_triton() -> bool:
    """Whether the package is there; torch's own CUDA builds bring it."""
    return find_spec("triton") is not None


def accelerated(x: Tensor) -> bool:
    """Whether kernels serve this tensor: float32 on a GPU, where triton is installed."""
    if _mode != "auto":
        return _mode == "triton"
    return x.is_cuda and x.dtype == torch.float32 and has_triton()


@contextmanager
def acceleration(mode: Mode) -> Iterator[None]:
    """Inside the block one path is taken everywhere: for comparisons, and for kernels under triton's interpreter."""
    global _mode
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before
