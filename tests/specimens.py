"""Small SAEs with random or hand-made weights, and token streams over invented text."""

from pathlib import Path

import torch

from interp.datasets import DataConfig, TokenStream, open_stream
from interp.models import Model
from saes import SAE, SAEConfig, create_sae
from tests.texts import tiny_texts, write_jsonl

HOOK = "blocks.1.hook_resid_post"


def random_sae(architecture: str, *, d_in: int = 16, d_sae: int = 24, k: int = 3, seed: int = 0, **more) -> SAE:
    """Every parameter random; the threshold, where there is one, lets about k features pass."""
    hook = more.pop("hook", HOOK)
    n_prefixes = min(3, d_sae.bit_length()) if architecture == "matryoshka" else 1
    config = SAEConfig(architecture=architecture, d_sae=d_sae, k=k, n_prefixes=n_prefixes, **more)
    sae = create_sae(config, d_in, hooks_in=(hook,))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.1 if name.startswith("b") else 0.3))
        if config.decoder_norm == "unit":
            sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
        if architecture in ("batch_topk", "matryoshka"):
            sae.threshold.fill_(0.7)
        if architecture == "jumprelu":
            sae.threshold.abs_()
    return sae.eval()


def perfect_sae(d_in: int = 16, *, hook: str = HOOK) -> SAE:
    """x = relu(x) - relu(-x): reconstructs everything."""
    sae = random_sae("standard", d_in=d_in, d_sae=2 * d_in, hook=hook)
    both = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
    with torch.no_grad():
        sae.W_enc.copy_(both)
        sae.W_dec.copy_(both)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae


def constant_sae(value: torch.Tensor, *, hook: str = HOOK) -> SAE:
    """Nothing fires: every token is reconstructed as `value`."""
    sae = random_sae("standard", d_in=value.shape[0], hook=hook)
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.fill_(-1.0)
        sae.b_dec.copy_(value)
    return sae


def tiny_stream(folder: Path, model: Model, *, n_documents: int = 60, longest: int = 20, **config) -> TokenStream:
    """All of the invented text, in small batches."""
    write_jsonl(folder / "texts.jsonl", tiny_texts(n_documents, longest=longest))
    return written_stream(folder, model, **config)


def written_stream(folder: Path, model: Model, **config) -> TokenStream:
    """What `tiny_stream` wrote into a folder, opened without writing it again: for several readers at once."""
    path = folder / "texts.jsonl"
    defaults = {"context_size": 24, "batch_tokens": 96}
    return open_stream(str(path), model, DataConfig(**{**defaults, **config}), split="all")
