"""Models whose weights are stored in fewer bits: which package each method needs, told before anything is loaded."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from transformers.utils.quantization_config import QuantizationMethod

from interp.errors import MissingDependencyError, ModelError

# Method in config.json -> (module, what to install). Others are left to transformers, which names what it lacks.
_PACKAGES: Mapping[str, tuple[str, str]] = {
    "aqlm": ("aqlm", "aqlm[cpu,gpu]"),
    "auto-round": ("auto_round", "auto-round"),
    "awq": ("gptqmodel", "gptqmodel"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "fp8": ("accelerate", "accelerate"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "hqq": ("hqq", "hqq"),
    "mxfp4": ("kernels", "kernels"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "torchao": ("torchao", "torchao"),
}


def quantisation_of(folder: Path) -> str | None:
    """The method by which a model's weights were quantised, ready to be loaded; None for plain weights.

    Raises: ModelError if config.json has a quantization_config without a method that transformers knows, for which it
    would take the weights as plain ones; MissingDependencyError if the method's package is not installed.
    """
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if not isinstance(method, str):
        raise ModelError(f"{folder}/config.json: quantization_config names no quant_method; restore the file")
    known = sorted(one.value for one in QuantizationMethod)
    if method not in known:
        raise ModelError(
            f"{folder}/config.json: got quantisation {method!r}; transformers knows {', '.join(known)}; "
            "give the model in one of these or in full precision"
        )
    module, package = _PACKAGES.get(method, ("accelerate", "accelerate"))
    for name, install in ((module, package), ("accelerate", "accelerate")):
        if not _is_installed(name):
            raise MissingDependencyError(
                f"{folder}: its weights are quantised with {method}, which needs a package that is not installed: "
                f"pip install {install}, or give the model in full precision"
            )
    return method


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The parent of a dotted name is missing.
        return False
