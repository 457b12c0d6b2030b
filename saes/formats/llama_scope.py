"""Llama Scope: hyperparams.json with checkpoints/final.safetensors, or config.json with sae_weights.safetensors.

Encoder [f, d], decoder [o, f]; trained on activations times √d / (their mean norm), input and output each by its own.
The threshold of the first release is one number, for raw activations and decoder rows of norm one; that of the second
is one per feature, for scaled activations.
Format: SparseAutoEncoder.from_pretrained of OpenMOSS's Language-Model-SAEs; He et al. 2024 (arXiv 2410.20526).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interp.errors import ArtifactError
from interp.storage import read_json, read_tensors
from saes.facts import SAEFacts
from saes.formats.source import Source
from saes.formats.stored import StoredSAE
from saes.formats.tensors import checked, positive

NORMS = "dataset_average_activation_norm"
FIRST, SECOND = "hyperparams.json", "config.json"
FIRST_WEIGHTS, SECOND_WEIGHTS = "checkpoints/final.safetensors", "sae_weights.safetensors"
MODEL = "meta-llama/Llama-3.1-8B"


def read(source: Source) -> StoredSAE:
    """Raises: ArtifactError for what is missing, contradictory or not supported."""
    first = (source.folder / FIRST).exists()
    config_name = FIRST if first else SECOND
    values = read_json(source.folder / config_name)
    if not isinstance(values, dict):
        raise ArtifactError(f"{config_name}: got a {type(values).__name__}; expected a mapping")
    _check_supported(values, config_name)
    d_in = positive(values, "d_model", where=config_name)
    d_sae = values.get("d_sae") or d_in * positive(values, "expansion_factor", where=config_name)
    shapes = {
        "encoder.weight": (d_sae, d_in), "encoder.bias": (d_sae,), "decoder.weight": (d_in, d_sae),
        "decoder.bias": (d_in,),
    }  # fmt: skip
    shapes |= {} if first else {"log_jumprelu_threshold": (d_sae,)}
    tensors = read_tensors(source.folder / (FIRST_WEIGHTS if first else SECOND_WEIGHTS))
    norms = [name for name in tensors if name.startswith(NORMS)]
    weights = checked(tensors, shapes, ignored=norms)
    values = {NORMS: {name.removeprefix(f"{NORMS}."): _one(tensors, name) for name in norms}} | values
    hook, hook_out = _hooks(values, config_name, source)
    stored = StoredSAE(
        activation="jumprelu",
        W_enc=weights["encoder.weight"],
        W_dec=weights["decoder.weight"].t().contiguous(),
        b_enc=weights["encoder.bias"],
        b_dec=weights["decoder.bias"],
        threshold=None if first else weights["log_jumprelu_threshold"].exp(),
        subtract_b_dec=bool(values.get("apply_decoder_bias_to_pre_encoder")),
        hook_out=hook_out,
        facts=SAEFacts(
            hook,
            "jumprelu" if hook_out is None else "transcoder",
            (d_sae,),
            {"name": MODEL},
            {"context_size": 1024, "prepend_bos": True},
        ),
    )
    return _for_raw_activations(stored, values, source)


def _for_raw_activations(stored: StoredSAE, values: Mapping[str, Any], source: Source) -> StoredSAE:
    scale_in, scale_out = _scales(values, stored.W_enc.shape[1], source)
    # Feature values too are in raw units after the release's own loader.
    scaled = stored.scaled(scale_in, scale_out).with_feature_scale(1 / scale_in)
    threshold = scaled.threshold
    if threshold is None:
        one = values.get("jump_relu_threshold")
        if not isinstance(one, int | float) or one < 0:
            raise ArtifactError(f"{FIRST}: jump_relu_threshold: got {one!r}; expected a number")
        threshold = torch.full_like(stored.b_enc, float(one))
    if values.get("sparsity_include_decoder_norm", True):
        # What is compared with the threshold is the value times the decoder row's norm.
        scaled = scaled.with_unit_decoder()
    return replace(scaled, threshold=threshold)


def _scales(values: Mapping[str, Any], d_in: int, source: Source) -> tuple[float, float]:
    """√d / mean norm of input and output.

    Raises: ArtifactError if the norms are neither in the config nor given.
    """
    if values.get("norm_activation", "dataset-wise") not in ("dataset-wise", "inference"):
        raise ArtifactError(f"got norm_activation {values['norm_activation']!r}; supported are dataset-wise, inference")
    if values.get("norm_activation") == "inference":
        return 1.0, 1.0
    if source.activation_scale is not None:
        return source.activation_scale, source.activation_scale
    norms = values.get(NORMS)
    names = ("in", "out") if isinstance(norms, dict) and "in" in norms else _hook_names(values)
    found = [norms.get(name) if isinstance(norms, dict) else None for name in names]
    if not all(isinstance(norm, int | float) and norm > 0 for norm in found):
        raise ArtifactError(
            "dataset_average_activation_norm is not in its config; give √d / mean norm as activation_scale"
        )
    scale_in, scale_out = (math.sqrt(d_in) / float(norm) for norm in found if norm is not None)
    return scale_in, scale_out


def _one(tensors: Mapping[str, Tensor], name: str) -> float:
    if tensors[name].numel() != 1:
        raise ArtifactError(f"weights: {name}: got {tuple(tensors[name].shape)} numbers; expected one")
    return float(tensors[name])


def _hook_names(values: Mapping[str, Any]) -> tuple[str, str]:
    return str(values.get("hook_point_in")), str(values.get("hook_point_out", values.get("hook_point_in")))


def _hooks(values: Mapping[str, Any], where: str, source: Source) -> tuple[str, str | None]:
    if not isinstance(values.get("hook_point_in"), str):
        return source.hook_or(None, reason=f"{where} names no hook_point_in"), None
    hook, hook_out = _hook_names(values)
    return source.hook or hook, None if hook == hook_out else hook_out


def _check_supported(values: Mapping[str, Any], where: str) -> None:
    activation = values.get("act_fn", "jumprelu")
    if activation != "jumprelu" or values.get("use_glu_encoder"):
        what = "a gated encoder" if values.get("use_glu_encoder") else f"act_fn {activation!r}"
        raise ArtifactError(f"{where}: got {what}; supported is jumprelu, as in the released Llama Scope SAEs")
