"""Kernels are launched on the GPU that their tensors are on, whichever the current one is."""

import re
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
import torch

import saes.ops.launch as launch

triton = pytest.importorskip("triton", reason="triton is not installed: pip install triton")

LAUNCH = Path(launch.__file__)
MODULES = sorted(f"saes.ops.{path.stem}" for path in LAUNCH.parent.glob("triton_*.py"))


class Compiled:
    """In the place of triton's: what is launched is written down."""

    def __init__(self, log):
        self._log = log

    def __getitem__(self, grid):
        return lambda *given, **constants: self._log.append((grid, given, constants))


def test_the_first_tensors_gpu_is_the_current_one_during_the_launch_and_not_after(monkeypatch):
    log, x, y = [], torch.zeros(2), torch.zeros(3)

    @contextmanager
    def device_of(tensor):
        log.append(("on that of", tensor is x))
        yield
        log.append("back")

    monkeypatch.setattr(triton, "jit", lambda _function: Compiled(log))
    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    launch.Kernel(lambda: None)[(4, 2)](x, y, 3, BLOCK=8)
    assert log == [("on that of", True), ((4, 2), (x, y, 3), {"BLOCK": 8}), "back"]


@pytest.mark.parametrize("module", MODULES)
def test_all_kernels_are_launched_so(module):
    kernels = {name: made for name, made in vars(import_module(module)).items() if name.endswith("_kernel")}
    assert kernels
    assert [name for name, made in kernels.items() if not isinstance(made, launch.Kernel)] == []


def test_nothing_else_compiles_with_triton():
    """Whatever a kernel is called and wherever it stands."""
    root, packages = LAUNCH.parents[2], ("interp", "saes", "probes", "dashboards")
    sources = {path: path.read_text(encoding="utf-8") for one in packages for path in (root / one).rglob("*.py")}
    of_triton = [path for path, text in sources.items() if re.search(r"^ *(import|from) triton\b", text, re.MULTILINE)]
    assert len(of_triton) > len(MODULES) > 0
    assert [path for path in of_triton if re.search(r"\bjit\b", sources[path])] == [LAUNCH]
