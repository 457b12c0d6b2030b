"""Dictionaries that read and write several hooks, or others than they read, with random or hand-made weights."""

from dataclasses import dataclass

import torch

from interp.code import Code
from saes import SAE, SAEConfig, create_sae
from saes.transcoder import Transcoder
from tests.specimens import random_sae

MLP_IN, MLP_OUT = "blocks.1.ln2.hook_out", "blocks.1.hook_mlp_out"
DEPTHS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def random_transcoder(*, skip: bool = False, k: int = 3, d_sae: int = 24, hooks=(MLP_IN, MLP_OUT), d=(16, 16)):
    """A TopK transcoder with every parameter random."""
    config = SAEConfig(architecture="topk", d_sae=d_sae, k=k, n_prefixes=1)
    made = Transcoder(config, d[0], d[1], skip=skip, hooks_in=(hooks[0],), hooks_out=(hooks[1],))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.1 if name.startswith("b") else 0.3))
    return made.eval()


@dataclass(frozen=True)
class SideBySide:
    """A crosscoder by hand: one code from all hooks, each of which gets its columns of one decoder."""

    sae: object
    hooks: tuple[str, ...] = DEPTHS

    hooks_in = property(lambda self: self.hooks)
    hooks_out = property(lambda self: self.hooks)
    d_sae = property(lambda self: self.sae.d_sae)

    def encode(self, x) -> Code:
        return self.sae.encode(x)

    def decode(self, code, *, prefix=None):
        return self.sae.decode(code, prefix=prefix)

    def directions(self, features):
        return self.sae.directions(features)


def crosscoder(sae=None) -> SideBySide:
    """Random, over the residual stream after both blocks of a tiny model."""
    return SideBySide(random_sae("topk", d_in=32) if sae is None else sae)


def random_crosscoder() -> SAE:
    """A TopK crosscoder of the same hooks with every parameter random, on scales of their own."""
    config = SAEConfig(architecture="topk", d_sae=24, k=3, n_prefixes=1)
    sae = create_sae(config, 32, hooks_in=DEPTHS, hook_widths=(16, 16))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
        sae.input_scale[:16] = 2.0
    return sae.eval()
