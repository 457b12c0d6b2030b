"""From a config to an untrained SAE."""

from collections.abc import Sequence

import torch

from interp.errors import ConfigError
from saes.base import SAE
from saes.batch_topk import BatchTopKSAE
from saes.codebook import CosineCodebook
from saes.codebook_latent import LatentCodebook
from saes.config import CODEBOOK, SAEConfig
from saes.crosscoder import Crosscoding
from saes.gated import GatedSAE
from saes.jumprelu import JumpReLUSAE
from saes.matryoshka import MatryoshkaSAE
from saes.standard import StandardSAE
from saes.topk import TopKSAE
from saes.transcoder import Transcoding

ARCHITECTURES: dict[str, type[SAE]] = {
    "topk": TopKSAE,
    "batch_topk": BatchTopKSAE,
    "matryoshka": MatryoshkaSAE,
    "standard": StandardSAE,
    "gated": GatedSAE,
    "jumprelu": JumpReLUSAE,
}


def create_sae(
    config: SAEConfig,
    d_in: int,
    *,
    hooks_in: tuple[str, ...],
    hooks_out: tuple[str, ...] | None = None,
    d_out: int | None = None,
    hook_widths: Sequence[int] | None = None,
    token_budget: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SAE:
    """An SAE of the configured architecture, all weights zero until `initialise` or a state dict fills them.

    `token_budget` is the number of tokens of the run; it decides when a feature counts as dead. Other hooks out than in
    make it a transcoder, whose output is `d_out` wide; `hook_widths`, of several hooks, make it a crosscoder.

    Raises: ConfigError for a gated transcoder, or a codebook of more than one hook.
    """
    kind = _codebook(config) if config.architecture == CODEBOOK else ARCHITECTURES[config.architecture]
    sae = kind(
        config,
        d_in,
        hooks_in=hooks_in,
        hooks_out=hooks_out,
        d_out=d_out,
        token_budget=token_budget,
        device=device,
        dtype=dtype,
    )
    if config.architecture == CODEBOOK and (sae.hooks_in != sae.hooks_out or len(sae.hooks_in) > 1):
        raise ConfigError(
            "sae.architecture: got codebook for more than one hook; its codes are compared with what they add up to"
        )
    if sae.hooks_in != sae.hooks_out:
        if config.architecture == "gated":
            raise ConfigError("sae.architecture: got gated for a transcoder; choose another, such as jumprelu")
        sae.wiring = Transcoding(sae, skip=config.skip)
    elif hook_widths is not None and len(hook_widths) > 1:
        sae.wiring = Crosscoding(sae, hook_widths)
    return sae


def _codebook(config: SAEConfig) -> type[SAE]:
    return LatentCodebook if config.codebook_variant == "latent" else CosineCodebook
