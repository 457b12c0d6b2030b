"""The weights of a model in memory: their hash, their matrices, and their randomised twin for null arms.

Axes: i inputs, o outputs of a linear module.
"""

import hashlib
import json
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


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


_PLAIN = (torch.float32, torch.bfloat16, torch.float16)


def linear_matrix(module: nn.Module, n_in: int, dtype: torch.dtype) -> Float[Tensor, "o i"]:
    """The matrix that a linear module multiplies by, in float32; of quantised weights, what they amount to.

    Quantised weights are stored in forms of their packages' own; what the module makes of unit vectors is the same for
    all of them. `dtype` is that of the module's inputs.
    """
    weight = getattr(module, "weight", None)
    # Modules of packages may keep weights that are plain to look at and a scale elsewhere.
    if type(module) in (nn.Linear, Conv1D) and type(weight) is nn.Parameter and weight.dtype in _PLAIN:
        plain = weight.detach().float()
        return plain.T if isinstance(module, Conv1D) else plain
    with torch.no_grad():
        # Some have no parameters but buffers.
        device = next(chain(module.parameters(), module.buffers())).device
        units = torch.eye(n_in, dtype=dtype, device=device)
        rows: Tensor = module(units) - module(torch.zeros_like(units[:1]))
    return rows.float().T
