"""Quantise a model, harvest it, and print how far it is from full precision as one JSON object.

A program of its own: transformers imports torchao wherever it finds it, which is slow and not silent, so that the
packages stand in a folder (`PACKAGES`) that no other test sees.

usage: python -m tests.quantised METHOD FOLDER
"""

import json
import sys
from pathlib import Path

import torch

from interp.errors import ConfigError
from interp.hooks import capture
from interp.models import load_model
from interp.weights import linear_matrix
from tests.families import save_model, tiny_model, tiny_tokens

HOOK = "blocks.1.hook_resid_post"
PACKAGES = Path(sys.prefix) / "quantised"


def quantise(folder: Path, method: str) -> Path:
    """A copy of the model in `folder` with its blocks in eight bits."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TorchAoConfig

    if method == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        settings = TorchAoConfig(Int8WeightOnlyConfig())
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True)
    hf = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=settings, dtype=torch.float32, device_map={"": "cpu"}
    )
    out = folder.parent / method
    hf.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out


def main(method: str, folder: Path) -> None:
    """Print the relative errors of activations and of a weight matrix, and what shuffling such a model is told."""
    plain = tiny_model("llama")
    save_model(plain, folder / "plain")
    path = str(quantise(folder / "plain", method))
    model = load_model(path, device="cpu")
    x, y = (capture(m, tiny_tokens(), [HOOK])[HOOK] for m in (plain, model))
    name = "model.layers.1.mlp.down_proj"
    full = plain.hf.get_submodule(name).weight
    matrix = linear_matrix(model.hf.get_submodule(name), full.shape[1], model.dtype)
    try:
        load_model(path, randomise_seed=1)
        refusal = None
    except ConfigError as error:
        refusal = str(error)
    told = {
        "quantisation": model.facts["quantisation"],
        "activations": float((x - y).abs().max() / x.abs().max()),
        "matrix": float((matrix - full).abs().max() / full.abs().max()),
        "shuffling": refusal,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
