"""Runs where sparsify is installed: writes SAEs and transcoders with its own `save_to_disk`.

Argument: a folder with inputs.safetensors. It writes `theirs/sparsify/<case>/<module>` and results/<name>.safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig

ROOT = Path(sys.argv[1])
X = load_file(ROOT / "inputs.safetensors")["x"]
D_IN, D_SAE = X.shape[1], 24
CASES = {
    "topk": ("layers.1", {}),
    "groupmax": ("layers.1", {"activation": "groupmax"}),
    "transcoder": ("layers.1.mlp", {"transcode": True}),
    "skip transcoder": ("layers.1.mlp", {"transcode": True, "skip_connection": True}),
}

torch.manual_seed(0)
for case, (module, settings) in CASES.items():
    folder = ROOT / "theirs" / "sparsify" / case / module
    coder = SparseCoder(D_IN, SparseCoderConfig(num_latents=D_SAE, k=3, **settings))
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    coder.save_to_disk(folder)
    loaded = SparseCoder.load_from_disk(folder)
    with torch.no_grad():
        top = loaded.encode(X)
        acts = torch.zeros(X.shape[0], D_SAE).scatter(1, top.top_indices, top.top_acts)
        output = loaded(X).sae_out
    path = ROOT / "results" / "sparsify" / f"{case}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"acts": acts, "output": output.contiguous()}, path)
