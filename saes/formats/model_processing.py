"""What a TransformerLens model was made into before an SAE was trained on it, and what that means on the raw model."""

from collections.abc import Mapping
from typing import Any

from interp.errors import ArtifactError
from saes.normalised import Normalisation

LOADING_ONLY = {"device", "device_map", "n_devices", "dtype", "torch_dtype", "move_to_device", "trust_remote_code"}
"""Say how the model was loaded, not what it computes."""
CENTRED_STREAM = ("hook_embed", "hook_pos_embed", "hook_resid_pre", "hook_resid_mid", "hook_resid_post")
CENTRED_WRITERS = ("hook_attn_out", "hook_mlp_out")
INSIDE_ATTENTION = ("hook_q", "hook_k", "hook_v", "hook_z", "hook_result", "hook_pattern", "hook_attn_scores")
INSIDE_NORM = ("hook_normalized", "hook_scale")
EFFECT_ONLY_AT: Mapping[str, tuple[str, ...]] = {
    "fold_ln": INSIDE_NORM,
    "center_unembed": (),
    "center_writing_weights": INSIDE_NORM,
    "fold_value_biases": INSIDE_ATTENTION,
    "refactor_factored_attn_matrices": INSIDE_ATTENTION,
}
"""Rewriting of weights -> last parts of the hooks whose activations it changes, besides the centred ones."""

TRAINED_ON_CENTRED = frozenset(
    {
        "jbloom/GPT2-Small-SAEs-Reformatted",
        "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
        "tommmcgrath/gpt2-small-mlp-out-saes",
    }
)
"""Released SAEs of a model with centred writing weights whose own files do not say so (SAELens's directory does)."""
RMS_NORM_NAMES = ("gemma", "llama", "mistral", "qwen")
"""Parts of the names of models that do not take the mean off."""


def has_rms_norm(name: str) -> bool:
    """Whether a model is, by its name, one of RMS norms; with the model at hand, `saes.model_fit` knows."""
    return any(part in name.rsplit("/", 1)[-1].lower() for part in RMS_NORM_NAMES)


def normalisation_for(kwargs: Mapping[str, Any], hook: str) -> Normalisation | None:
    """How activations of the raw model become those of the processed one at `hook`; None where they are the same.

    Centred writing weights take the mean off what is written to the residual stream of a LayerNorm model; every later
    LayerNorm would take it off anyway, so the reconstruction gets the mean back.

    Raises: ArtifactError for what cannot be done on the raw model.
    """
    result: Normalisation | None = None
    name = hook.rsplit(".", 1)[-1]
    for key, value in kwargs.items():
        if key in LOADING_ONLY or not value or (key == "revision" and value == "main"):
            continue
        if key == "center_writing_weights" and name not in INSIDE_NORM:
            result = "centre" if name in CENTRED_STREAM + CENTRED_WRITERS else result
        elif name in EFFECT_ONLY_AT.get(key, (name,)):
            raise ArtifactError(
                f"trained on a model loaded with {key}={value!r}, which changes what stands at {hook}; "
                "expected a model as it is published; no SAE can be read whose activations this model does not have"
            )
    return result
