"""OpenAI's SAEs of GPT-2 small: one .pt file per layer, a state dict.

Encoder [f, d], decoder [d, f]; those with TopK read layer-normalised tokens, those with ReLU raw ones.
Format: Autoencoder.from_state_dict of github.com/openai/sparse_autoencoder; Gao et al. 2024 (arXiv 2406.04093).
"""

import re
from collections.abc import Mapping
from typing import Any

from interp.errors import ArtifactError
from saes.facts import SAEFacts
from saes.formats.source import Source
from saes.formats.stored import StoredSAE
from saes.formats.tensors import checked, positive, read_torch, size

SITES = {
    "resid_post_mlp": "hook_resid_post", "resid_post_attn": "hook_resid_mid", "resid_delta_mlp": "hook_mlp_out",
    "resid_delta_attn": "hook_attn_out", "mlp_post_act": "mlp.hook_post",
}  # fmt: skip
"""Their names of places in the model -> ours."""
STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
ACTIVATIONS = {"ReLU": "relu", "TopK": "topk"}


def read(source: Source) -> StoredSAE:
    """Raises: ArtifactError for what is missing, contradictory or not supported."""
    state = read_torch(source.path)
    activation = state.pop("activation", "ReLU")
    settings = state.pop("activation_state_dict", {})
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ArtifactError(f"weights: got activation {activation!r}; supported are {', '.join(ACTIVATIONS)}")
    d_sae, d_in = size(state, "encoder.weight", 0), size(state, "encoder.weight", 1)
    shapes = {"encoder.weight": (d_sae, d_in), "latent_bias": (d_sae,), "pre_bias": (d_in,)}
    weights = checked(_untied(state), shapes | {"decoder.weight": (d_in, d_sae)}, ignored=STATISTICS)
    topk = activation == "TopK"
    hook = source.hook_or(_hook(source), reason=f"{source.name} does not say layer and site as the release's paths do")
    return StoredSAE(
        activation="topk" if topk else "relu",
        W_enc=weights["encoder.weight"],
        W_dec=weights["decoder.weight"].t().contiguous(),
        b_enc=weights["latent_bias"],
        b_dec=weights["pre_bias"],
        k=_k(settings) if topk else None,
        normalisation="layer_norm" if topk else None,
        facts=SAEFacts(hook, "topk" if topk else "standard", (d_sae,), {"name": "gpt2"}, {"context_size": 64}),
    )


def _untied(state: Mapping[str, Any]) -> dict[str, Any]:
    """With a decoder of its own: a tied one is saved as the encoder under a second name."""
    rest = {name: tensor for name, tensor in state.items() if name != "decoder.linear.weight"}
    return {"decoder.weight": state["encoder.weight"].t(), **rest} if "decoder.linear.weight" in state else rest


def _k(settings: Any) -> int:
    if not isinstance(settings, dict) or settings.get("postact_fn", "ReLU") != "ReLU":
        raise ArtifactError("weights: TopK without a ReLU after it, whose features fire negatively too; not read")
    return positive(settings, "k", where="activation_state_dict")


def _hook(source: Source) -> str | None:
    """From a path such as resid_post_mlp_v5_32k/autoencoders/8.pt."""
    site = next((site for site in SITES if site in source.name), None)
    layer = re.search(r"(\d+)\.pt$", source.path.name)
    return None if site is None or layer is None else f"blocks.{layer[1]}.{SITES[site]}"
