"""Runs inside the environment of SAELens: reads SAEs that we wrote, and writes some for us to read.

Arguments: a folder with inputs.safetensors (x) and `ours`, whose folders are to be read; `theirs` is written.
"""

import sys
from pathlib import Path

import torch
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file

ROOT = Path(sys.argv[1])


def results(sae, x):
    with torch.no_grad():
        acts = sae.encode(x)
        return {"acts": acts, "output": sae.decode(acts)}


def randomise(sae):
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
        if hasattr(sae, "threshold"):
            sae.threshold.copy_(torch.rand(sae.threshold.shape))
    return sae


def make(d_in, d_sae):
    metadata = {"metadata": SAEMetadata(hook_name="blocks.1.hook_resid_post", model_name="tiny")}
    sizes = {"d_in": d_in, "d_sae": d_sae, **metadata}
    yield "topk", TopKSAE(TopKSAEConfig(k=3, **sizes))
    yield "topk_rescaled", TopKSAE(TopKSAEConfig(k=3, rescale_acts_by_decoder_norm=True, **sizes))
    yield "standard", StandardSAE(StandardSAEConfig(apply_b_dec_to_input=False, **sizes))
    yield "jumprelu", JumpReLUSAE(JumpReLUSAEConfig(**sizes))
    config = MatryoshkaBatchTopKTrainingSAEConfig(k=3, matryoshka_widths=[d_sae // 2, d_sae], **sizes)
    trained = MatryoshkaBatchTopKTrainingSAE(config)
    trained.topk_threshold.fill_(0.4)
    yield "matryoshka", trained


x = load_file(ROOT / "inputs.safetensors")["x"]
for folder in sorted((ROOT / "ours").iterdir()):
    save_file(results(SAE.load_from_disk(folder), x), ROOT / f"{folder.name}.read.safetensors")
torch.manual_seed(0)
for name, sae in make(x.shape[1], 24):
    folder = ROOT / "theirs" / name
    randomise(sae)
    save = getattr(sae, "save_inference_model", sae.save_model)
    save(folder)
    save_file(results(SAE.load_from_disk(folder), x), ROOT / f"{name}.written.safetensors")
