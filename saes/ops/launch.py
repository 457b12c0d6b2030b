"""Triton kernels, each launched on the GPU that its tensors are on: triton itself launches on the current one."""

from collections.abc import Callable
from typing import Any

import torch


class Kernel:
    """A triton function, as `triton.jit` makes it; its first argument says which GPU."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import triton

        self._compiled: Any = triton.jit(function)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        launch = self._compiled[grid]

        def on_its_gpu(*given: Any, **constants: Any) -> None:
            with torch.cuda.device_of(given[0]):
                launch(*given, **constants)

        return on_its_gpu
