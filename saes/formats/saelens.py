"""SAELens: what stands in cfg.json and sae_weights.safetensors, of version 6 and of those before it.

Weights are [d, f] for the encoder and [f, o] for the decoder on disk; a transcoder's skip connection is [o, d].
Format: SAE.load_from_disk of SAELens 6.54; its configs of older versions as its own converter takes them.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interp.errors import ArtifactError
from interp.storage import read_json, read_tensors
from saes.config import SAEConfig
from saes.facts import SAEFacts
from saes.formats.model_processing import TRAINED_ON_CENTRED, has_rms_norm, normalisation_for
from saes.formats.saelens_config import as_version_6
from saes.formats.saelens_scaling import known_scale, saved_scale
from saes.formats.source import Source
from saes.formats.stored import Activation, StoredSAE
from saes.formats.tensors import checked, mapping, positive
from saes.normalised import Normalisation

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
Axes = Mapping[str, tuple[str, ...]]
COMMON: Axes = {"W_enc": ("d_in", "d_sae"), "W_dec": ("d_sae", "d_out"), "b_dec": ("d_out",)}
B_ENC: Axes = {"b_enc": ("d_sae",)}
THRESHOLD: Axes = {**B_ENC, "threshold": ("d_sae",)}
SKIP: Axes = {"W_skip": ("d_out", "d_in")}
GATED: Axes = {"b_gate": ("d_sae",), "b_mag": ("d_sae",), "r_mag": ("d_sae",)}
ARCHITECTURES: Mapping[str, tuple[Activation, Axes]] = {
    "standard": ("relu", B_ENC),
    "topk": ("topk", B_ENC),
    "jumprelu": ("jumprelu", THRESHOLD),
    "gated": ("gated", GATED),
    "transcoder": ("relu", B_ENC),
    "skip_transcoder": ("relu", {**B_ENC, **SKIP}),
    "jumprelu_transcoder": ("jumprelu", THRESHOLD),
    "jumprelu_skip_transcoder": ("jumprelu", {**THRESHOLD, **SKIP}),
}
"""What SAELens calls them -> activation, tensors beside those that all have."""
REFUSED = {
    "abstopk": "its features fire negatively too",
    "matching_pursuit": "it encodes by pursuit, not by one product",
    "temporal": "a token's code depends on the tokens before it",
    "batchtopk": "it is a training checkpoint; save it with save_inference_model",
    "matryoshka_batchtopk": "it is a training checkpoint; save it with save_inference_model",
}
HUB_NAMES = {"gpt2-small": "gpt2"}
HUB_OWNERS = {"pythia-": "EleutherAI", "gemma-": "google", "Llama-": "meta-llama", "Qwen": "Qwen"}
"""TransformerLens's short names of models, or how they begin -> the hub's."""
TRAINED = {"batchtopk": "batch_topk", "matryoshka_batchtopk": "matryoshka"}
"""SAELens's names of what is written as jumprelu -> ours."""


def read(source: Source) -> StoredSAE:
    """Raises: ArtifactError for what is missing, contradictory or not supported."""
    values = as_version_6(read_json(source.folder / CONFIG))
    return from_saelens(values, read_tensors(source.folder / WEIGHTS), source)


def from_saelens(
    values: Mapping[str, Any], tensors: Mapping[str, Tensor], source: Source, own: SAEConfig | None = None
) -> StoredSAE:
    """What a config of version 6 and its tensors say; `own` is the config in our interp.json where there is one."""
    architecture, metadata = _architecture(values), values["metadata"]
    activation, shapes = ARCHITECTURES[architecture]
    sizes = {name: positive(values, name, where=CONFIG) for name in ("d_in", "d_sae")}
    tensors, finetuned = _without_finetuning(values, tensors)
    is_transcoder = "transcoder" in architecture
    sizes["d_out"] = positive(values, "d_out", where=CONFIG) if is_transcoder else sizes["d_in"]
    weights = checked(tensors, {name: tuple(sizes[a] for a in axes) for name, axes in {**COMMON, **shapes}.items()})
    hook, hook_out = _hook(metadata, source), _hook_out(metadata) if is_transcoder else None
    stored = StoredSAE(
        activation=activation,
        W_enc=weights["W_enc"].t().contiguous(),
        W_dec=weights["W_dec"],
        b_enc=weights["b_gate" if architecture == "gated" else "b_enc"],
        b_dec=weights["b_dec"],
        facts=_facts(values, hook, weights.get("threshold")),
        subtract_b_dec=bool(values.get("apply_b_dec_to_input", True)),
        hook_out=hook_out,
        k=_k(values),
        threshold=weights.get("threshold"),
        r_mag=weights.get("r_mag"),
        b_mag=weights.get("b_mag"),
        W_skip=weights.get("W_skip"),
        config=own,
    )
    if finetuned is not None:
        # Scaled when decoded, not when encoded.
        stored = replace(stored, W_dec=stored.W_dec * finetuned[:, None])
    if values.get("rescale_acts_by_decoder_norm"):
        stored = stored.with_unit_decoder()
    return _normalised(stored, values, _processing(_kwargs(metadata, source), hook, hook_out), source)


def _architecture(values: Mapping[str, Any]) -> str:
    architecture = values.get("architecture")
    if isinstance(architecture, str) and architecture in REFUSED:
        raise ArtifactError(f"cfg.json: got architecture {architecture!r}, which is not read: {REFUSED[architecture]}")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ArtifactError(f"cfg.json: got architecture {architecture!r}; supported are {known}; choose one of these")
    return architecture


def _without_finetuning(
    values: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The other tensors, and the factor of each feature from finetuning after training, if it is not one throughout."""
    rest = {name: tensor for name, tensor in tensors.items() if name not in ("scaling_factor", "log_threshold")}
    if "log_threshold" in tensors:
        rest["threshold"] = tensors["log_threshold"].float().exp()
    factor = tensors.get("scaling_factor")
    if factor is None or bool(torch.isclose(factor, torch.ones_like(factor)).all()):
        return rest, None
    if not values.get("finetuning_scaling_factor"):
        raise ArtifactError(
            "weights: scaling_factor is not one throughout, but cfg.json does not set finetuning_scaling_factor; "
            "say in it whether the factors are used"
        )
    return rest, checked({"scaling_factor": factor}, {"scaling_factor": (values["d_sae"],)})["scaling_factor"]


def _hook(metadata: Mapping[str, Any], source: Source) -> str:
    named = metadata.get("hook_name")
    hook = source.hook_or(named if isinstance(named, str) else None, reason="cfg.json names no hook_name")
    # Trained on a Hugging Face model, whose blocks it names as the model does.
    block = re.fullmatch(r"(?:model|transformer|gpt_neox)\.(?:layers|h)\.(\d+)", hook)
    hook = f"blocks.{block[1]}.hook_resid_post" if block else hook
    if metadata.get("hook_head_index") is not None:
        raise ArtifactError(
            f"cfg.json: trained on head {metadata['hook_head_index']} of {hook} alone; "
            "expected all heads, side by side; such an SAE is not read"
        )
    return hook


def _hook_out(metadata: Mapping[str, Any]) -> str:
    hook = metadata.get("hook_name_out")
    if not isinstance(hook, str):
        raise ArtifactError("cfg.json: a transcoder without metadata.hook_name_out; add the hook that it predicts")
    return hook


def _kwargs(metadata: Mapping[str, Any], source: Source) -> dict[str, Any]:
    known = {"center_writing_weights": True} if any(map(source.is_of, TRAINED_ON_CENTRED)) else {}
    given = mapping(metadata, "model_from_pretrained_kwargs", where=CONFIG)
    # SAELens passes it on to TransformerLens, which leaves models with RMS norms as they are.
    unheeded = ("center_writing_weights",) if has_rms_norm(str(metadata.get("model_name"))) else ()
    return {name: value for name, value in {**known, **given}.items() if name not in unheeded}


def _processing(kwargs: Mapping[str, Any], hook: str, hook_out: str | None) -> Normalisation | None:
    processing = normalisation_for(kwargs, hook)
    if hook_out is not None and (processing is not None or normalisation_for(kwargs, hook_out) is not None):
        raise ArtifactError(
            "cfg.json: a transcoder of a model with centred writing weights, whose two hooks have different means on "
            "the model as it is published; expected one without center_writing_weights"
        )
    return processing


def _details(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(values["metadata"], "training_architecture_details", where=CONFIG)


def _k(values: Mapping[str, Any]) -> int | None:
    if values["architecture"] == "topk":
        return positive(values, "k", where=CONFIG)
    details = _details(values)
    if "k" not in details:
        return None
    k = details["k"]
    if not isinstance(k, int | float) or not math.isfinite(k):
        raise ArtifactError(f"{CONFIG}: training_architecture_details: k: got {k!r}; expected a number")
    return max(1, round(k))


def _facts(values: Mapping[str, Any], hook: str, threshold: Tensor | None) -> SAEFacts:
    metadata, architecture, d_sae = values["metadata"], values["architecture"], values["d_sae"]
    details = _details(values)
    trained = TRAINED.get(str(metadata.get("training_architecture")))
    uniform = threshold is not None and torch.equal(threshold, threshold[:1].expand_as(threshold))
    if architecture == "jumprelu" and trained and "k" in details and uniform:
        architecture = "matryoshka" if details.get("matryoshka_widths") else "batch_topk"
    architecture = "transcoder" if "transcoder" in architecture else architecture
    prefixes = _prefixes(details["matryoshka_widths"], d_sae) if architecture == "matryoshka" else (d_sae,)
    special = metadata.get("exclude_special_tokens")
    mask = {"mask_bos": special, "mask_special": special} if isinstance(special, bool) else None
    known = {
        "dataset": metadata.get("dataset_path"),
        "context_size": metadata.get("context_size"),
        "prepend_bos": metadata.get("prepend_bos"),
        "mask_policy": mask,
    }
    model = {"name": _hub_name(metadata.get("model_name"))}
    return SAEFacts(hook, architecture, prefixes, model, {name: v for name, v in known.items() if v is not None})


def _prefixes(widths: Any, d_sae: int) -> tuple[int, ...]:
    if not isinstance(widths, list) or not all(isinstance(width, int) for width in widths):
        raise ArtifactError(f"{CONFIG}: matryoshka_widths: got {widths!r}; expected whole numbers")
    # SAELens trains the whole dictionary as the last level, named or not.
    return (*widths, d_sae) if widths[-1] != d_sae else tuple(widths)


def _hub_name(name: Any) -> Any:
    """TransformerLens's short name of a model as the hub's."""
    if not isinstance(name, str) or "/" in name:
        return name
    owner = next((owner for start, owner in HUB_OWNERS.items() if name.startswith(start)), None)
    return HUB_NAMES.get(name, name if owner is None else f"{owner}/{name}")


def _normalised(
    stored: StoredSAE, values: Mapping[str, Any], processing: Normalisation | None, source: Source
) -> StoredSAE:
    mode = values.get("normalize_activations") or "none"
    if mode == "expected_average_only_in":
        scale = source.activation_scale or saved_scale(source.folder) or known_scale(source)
        if scale is None:
            raise ArtifactError(
                "cfg.json: trained on activations times √d_in / (their mean norm), a factor its files do not hold; "
                "give it as activation_scale (1 if the weights hold it already, which SAELens assumes)"
            )
        stored = stored.scaled(scale)
    elif mode == "constant_scalar_rescale":
        factor = values.get("activation_normalization_factor") or source.activation_scale
        if not isinstance(factor, int | float) or not math.isfinite(factor) or factor <= 0:
            raise ArtifactError(f"cfg.json: activation_normalization_factor: got {factor!r}; give activation_scale")
        stored = stored.scaled(float(factor))
    elif mode in ("layer_norm", "constant_norm_rescale"):
        return _at_run_time(stored, "layer_norm" if mode == "layer_norm" else "constant_norm", processing)
    elif mode != "none":
        reason = "a checkpoint of unfinished training" if mode == "covariance_whitening" else "an unknown way"
        raise ArtifactError(
            f"cfg.json: got normalize_activations {mode!r}, {reason}; supported are none, expected_average_only_in, "
            "constant_norm_rescale, constant_scalar_rescale and layer_norm; fold it into the weights with SAELens"
        )
    return replace(stored, normalisation=processing)


def _at_run_time(stored: StoredSAE, mode: Normalisation, processing: Normalisation | None) -> StoredSAE:
    if stored.hook_out is not None:
        raise ArtifactError("cfg.json: a transcoder of normalised input, whose output SAELens leaves normalised")
    # A LayerNorm centres by itself; the norm of a centred token is another than the token's.
    if processing is not None and mode != "layer_norm":
        raise ArtifactError("cfg.json: got constant_norm_rescale on a model with centred weights; expected one of both")
    return replace(stored, normalisation=mode)
