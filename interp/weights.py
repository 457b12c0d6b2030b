"""The weights of a model in memory: their hash, and their randomised twin for null arms."""

import hashlib
import json

import torch
from transformers import PreTrainedModel


def hash_weights(hf: PreTrainedModel) -> str:
    """SHA-256 over the config (without paths and versions) and all tensors of a model in memory."""
    config = {k: v for k, v in hf.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(hf.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def randomise(hf: PreTrainedModel, seed: int) -> None:
    """Shuffle the entries within every parameter, in place: what was learned goes, each tensor's scale stays.

    Norm weights, biases and embeddings are shuffled too, and tied tensors stay tied, so mean, variance and norm of
    every tensor are those of the trained model.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in hf.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
