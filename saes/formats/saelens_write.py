"""SAELens 6, written: what stands in cfg.json and sae_weights.safetensors for each of our SAEs.

Format: SAE.load_from_disk of SAELens 6.54. A tensor that its loader does not expect breaks it.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from interp.errors import ConfigError
from saes.base import SAE
from saes.gated import GatedSAE
from saes.group_max import GroupMaxSAE
from saes.jumprelu import JumpReLUSAE
from saes.normalised import Normalisation, NormalisedSAE
from saes.transcoder import Transcoder

FORMAT_VERSION = "6.54.12"
"""The version of SAELens against which the layout was checked; its loader takes less than 6 for an older layout."""
TRAINING_NAMES = {
    "topk": "topk",
    "batch_topk": "batchtopk",
    "matryoshka": "matryoshka_batchtopk",
    "standard": "standard",
    "gated": "gated",
    "jumprelu": "jumprelu",
}
"""Our names of architectures -> SAELens's."""
NORMALISATIONS: Mapping[Normalisation, str] = {"layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}


def to_saelens(sae: SAE, facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """cfg.json and tensors of a folded SAE. What selects by a threshold is written as JumpReLU.

    Raises: ConfigError for an SAE that the format cannot hold.
    """
    normalisation = sae.normalisation if isinstance(sae, NormalisedSAE) else None
    inner = sae.inner if isinstance(sae, NormalisedSAE) else sae
    architecture, hook = _architecture(inner), sae.hooks_in[0]
    metadata = _metadata(inner, architecture, facts)
    if normalisation == "centre":
        metadata["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    values: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": not isinstance(inner, Transcoder),
        "normalize_activations": "none" if normalisation is None else NORMALISATIONS.get(normalisation, "none"),
        "reshape_activations": "hook_z" if hook.endswith("hook_z") else "none",
        "metadata": metadata,
    }
    if architecture == "topk":
        values |= {"k": inner.config.k, "rescale_acts_by_decoder_norm": False}
    if isinstance(inner, Transcoder):
        values["d_out"] = inner.d_out
    tensors = _tensors(inner, architecture)
    return values, {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def _architecture(sae: SAE) -> str:
    """SAELens's name for what the SAE does at inference.

    Raises: ConfigError if it has none.
    """
    if isinstance(sae, Transcoder) and sae.config.architecture != "topk":
        jumprelu = "jumprelu_" if bool((sae.threshold > 0).any()) else ""
        return f"{jumprelu}skip_transcoder" if sae.W_skip is not None else f"{jumprelu}transcoder"
    if isinstance(sae, Transcoder | GroupMaxSAE):
        raise ConfigError(f"got a {type(sae).__name__} of {sae.config.architecture}; SAELens has nothing that does it")
    if isinstance(sae, GatedSAE):
        return "gated"
    if isinstance(sae, JumpReLUSAE) or sae.config.architecture in ("batch_topk", "matryoshka"):
        return "jumprelu"
    return sae.config.architecture


def _tensors(sae: SAE, architecture: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {"W_enc": sae.W_enc.t(), "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    if isinstance(sae, GatedSAE):
        return tensors | {"b_gate": sae.b_enc, "b_mag": sae.b_mag, "r_mag": sae.r_mag}
    tensors["b_enc"] = sae.b_enc
    if "jumprelu" in architecture:
        tensors["threshold"] = sae.threshold.expand(sae.d_sae)
    if isinstance(sae, Transcoder) and sae.W_skip is not None:
        tensors["W_skip"] = sae.W_skip
    return tensors


def _metadata(sae: SAE, architecture: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    model, data, config = facts.get("model", {}), facts.get("data", {}), sae.config
    details: dict[str, Any] = {} if config.penalised else {"k": config.k}
    if config.nested or config.architecture == "matryoshka":
        details["matryoshka_widths"] = list(config.prefix_widths())
    known: dict[str, Any] = {
        "sae_lens_version": FORMAT_VERSION,
        "sae_lens_training_version": None,
        "model_name": model.get("name"),
        "model_from_pretrained_kwargs": {},
        "hook_name": sae.hooks_in[0],
        "hook_head_index": None,
        "context_size": data.get("context_size"),
        "prepend_bos": data.get("prepend_bos"),
        "dataset_path": data.get("dataset"),
        "training_architecture": TRAINING_NAMES[config.architecture],
        "training_architecture_details": details,
    }
    if isinstance(sae, Transcoder):
        known["hook_name_out"] = sae.hooks_out[0]
    if isinstance(sae, GatedSAE | Transcoder):
        known["training_architecture"] = architecture
    return known
