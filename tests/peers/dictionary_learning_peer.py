"""Runs where dictionary_learning is installed: writes one SAE of each of its classes, as its trainers do.

Argument: a folder with inputs.safetensors. It writes `theirs/dictionary_learning/<case>` and
results/<name>.safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary
from safetensors.torch import load_file, save_file

ROOT = Path(sys.argv[1])
X = load_file(ROOT / "inputs.safetensors")["x"]
D_IN, D_SAE = X.shape[1], 24
CLASSES = {
    AutoEncoder: {}, AutoEncoderNew: {}, GatedAutoEncoder: {}, JumpReluAutoEncoder: {}, AutoEncoderTopK: {"k": 3},
    BatchTopKSAE: {"k": 3}, MatryoshkaBatchTopKSAE: {"k": 3, "group_sizes": [6, 6, 12]},
}  # fmt: skip

torch.manual_seed(0)
for kind, settings in CLASSES.items():
    name = kind.__name__
    folder = ROOT / "theirs" / "dictionary_learning" / name
    folder.mkdir(parents=True)
    sae = kind(D_IN, D_SAE, **settings)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
        if hasattr(sae, "threshold"):
            sae.threshold.copy_(torch.rand(sae.threshold.shape))
    trainer = {
        "dict_class": name, "trainer_class": "…", "activation_dim": D_IN, "dict_size": D_SAE, "layer": 1,
        "lm_name": "tiny", "submodule_name": "resid_post_layer_1", **settings,
    }  # fmt: skip
    buffer = {"d_submodule": D_IN, "io": "out", "ctx_len": 24}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": buffer}))
    torch.save(sae.state_dict(), folder / "ae.pt")
    loaded, _ = load_dictionary(str(folder), device="cpu")
    with torch.no_grad():
        acts = loaded.encode(X)
        result = {"acts": acts.contiguous(), "output": loaded.decode(acts).contiguous()}
    path = ROOT / "results" / "dictionary_learning" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(result, path)
