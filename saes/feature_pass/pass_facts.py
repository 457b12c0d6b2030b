"""What determines the outcome of a pass: one that was broken off is gone on with only if all of it is the same."""

import hashlib
from typing import Any

import torch

from interp.datasets import TokenStream
from interp.models import Model
from saes.base import SAE
from saes.feature_pass.settings import FeatureSettings
from saes.normalised import NormalisedSAE
from saes.token_sample import TokenSource


def pass_facts(model: Model, sae: SAE, source: TokenSource, settings: FeatureSettings) -> dict[str, Any]:
    """Model, SAE, text, settings and device of a pass, which are also recorded beside its result."""
    facts = {"model": model.facts, "sae": sae_facts(sae), "data": source.facts, "settings": settings.model_dump()}
    # How text is cut into batches is no fact of the data, yet batches are what a resumed pass skips.
    batches = {"data_config": source.config.model_dump()} if isinstance(source, TokenStream) else {}
    return {**facts, **batches, "device": model.device.type}


def sae_facts(sae: SAE) -> dict[str, Any]:
    """What the SAE computes: its weights, and what is no weight (k, normalisation)."""
    weights = {
        "hook": sae.hooks_in[0], "d_sae": sae.d_sae, "content_hash": sae_hash(sae), "class": type(sae).__name__,
        "config": sae.config.model_dump(), "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
    }  # fmt: skip
    if sae.hooks_in != sae.hooks_out or len(sae.hooks_in) > 1:
        weights |= {"hooks_in": list(sae.hooks_in), "hooks_out": list(sae.hooks_out)}
    if not isinstance(sae, NormalisedSAE):
        return weights
    return weights | {"normalisation": sae.normalisation, "inner_class": type(sae.inner).__name__}


def sae_hash(sae: SAE) -> str:
    """SHA-256 of all weights and counters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
