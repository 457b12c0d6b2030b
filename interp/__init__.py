"""Interp Workbench: look inside a pretrained transformer.

`interp.load_model("embedded")`, then `interp.capture`, `interp.edit`; train and read SAEs with the package `saes`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.activations.blocks import ShuffledActivations as ShuffledActivations
    from interp.activations.harvest import Harvest as Harvest
    from interp.code import ActivationBatch as ActivationBatch
    from interp.code import Code as Code
    from interp.datasets import DataConfig as DataConfig
    from interp.datasets import open_stream as open_stream
    from interp.hooks import capture as capture
    from interp.hooks import edit as edit
    from interp.models import Model as Model
    from interp.models import load_model as load_model

_HOMES = {
    "ShuffledActivations": "interp.activations.blocks",
    "Harvest": "interp.activations.harvest",
    "ActivationBatch": "interp.code",
    "Code": "interp.code",
    "DataConfig": "interp.datasets",
    "open_stream": "interp.datasets",
    "capture": "interp.hooks",
    "edit": "interp.hooks",
    "Model": "interp.models",
    "load_model": "interp.models",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # Read on first use, so that `interp --help` does not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'interp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
