"""Gemma Scope: params.npz (Gemma 2) and params.safetensors (Gemma 3), JumpReLU, a folder per layer, width and L0.

Encoder [d, f], decoder [f, d]; b_dec is not taken off the input. What was trained where stands in the names alone.
Format: the releases google/gemma-scope-* and google/gemma-scope-2-*; Lieberum et al. 2024 (arXiv 2408.05147).
"""

import re
from typing import Any

from interp.errors import ArtifactError
from interp.storage import read_tensors
from saes.facts import SAEFacts
from saes.formats.source import Source
from saes.formats.stored import StoredSAE
from saes.formats.tensors import checked, read_npz, size

ARRAYS, TENSORS = "params.npz", "params.safetensors"
SITES = {
    "res": "hook_resid_post", "resid_post": "hook_resid_post", "att": "attn.hook_z", "attn_out": "attn.hook_z",
    "mlp": "hook_mlp_out", "mlp_out": "hook_mlp_out",
}  # fmt: skip
FIRST_TRANSCODER_IN, SECOND_TRANSCODER_IN = "ln2.hook_normalized", "ln2.hook_out"
"""The first release folded the norm's gain into the MLP and read what stands before it; the second reads what the
model's own norm gives."""
TRANSCODER_OUT = "hook_mlp_out"


def read(source: Source) -> StoredSAE:
    """Raises: ArtifactError for what is missing, contradictory or not supported."""
    tensors: dict[str, Any] = _tensors(source)
    if re.search(r"(^|/)embedding(/|$)", source.name):
        raise ArtifactError("an SAE of token embeddings before their scaling by √d, which no hook here has; not read")
    is_transcoder = re.search(r"transcoder|clt", source.name) is not None
    if getattr(tensors.get("W_dec"), "ndim", 2) == 3:
        raise ArtifactError("a cross-layer transcoder, which writes to several layers; one of a single layer is read")
    d_in, d_sae = size(tensors, "W_enc", 0), size(tensors, "W_enc", 1)
    d_out = size(tensors, "W_dec", 1)
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_enc": (d_sae,), "b_dec": (d_out,), "threshold": (d_sae,),
    }  # fmt: skip
    if is_transcoder and "affine_skip_connection" in tensors:
        shapes["affine_skip_connection"] = (d_out, d_in)
    weights = checked(tensors, shapes)
    hook, hook_out = _hooks(source, is_transcoder=is_transcoder)
    return StoredSAE(
        activation="jumprelu",
        W_enc=weights["W_enc"].t().contiguous(),
        W_dec=weights["W_dec"],
        b_enc=weights["b_enc"],
        b_dec=weights["b_dec"],
        threshold=weights["threshold"],
        W_skip=weights.get("affine_skip_connection"),
        subtract_b_dec=False,
        hook_out=hook_out,
        facts=SAEFacts(
            hook,
            "transcoder" if is_transcoder else "jumprelu",
            (d_sae,),
            {"name": _model(source.name)},
            {"context_size": 1024, "prepend_bos": True},
        ),
    )


def _tensors(source: Source) -> dict[str, Any]:
    if (source.folder / ARRAYS).exists():
        return dict(read_npz(source.folder / ARRAYS))
    found = read_tensors(source.folder / TENSORS)
    # The second release writes its matrices in small letters.
    return {f"W_{name[2:]}" if name.startswith("w_") else name: tensor for name, tensor in found.items()}


def _hooks(source: Source, *, is_transcoder: bool) -> tuple[str, str | None]:
    layer = source.layer(r"layer_(\d+)")
    if is_transcoder:
        if layer is None:
            raise ArtifactError(f"{source.name}: names no layer; keep the release's folders, as in layer_12/width_16k")
        site_in = FIRST_TRANSCODER_IN if (source.folder / ARRAYS).exists() else SECOND_TRANSCODER_IN
        return source.hook or f"blocks.{layer}.{site_in}", f"blocks.{layer}.{TRANSCODER_OUT}"
    # The first release says the site in the repository's name, the second in the folder's.
    sites = re.findall(r"(resid_post|attn_out|mlp_out)|(?:-(?:pt|it)-(res|att|mlp)\b)", source.name)
    site = next((name for pair in reversed(sites) for name in pair if name), None)
    hook = None if layer is None or site is None else f"blocks.{layer}.{SITES[site]}"
    return source.hook_or(hook, reason="neither repository nor folders name layer and site"), None


def _model(name: str) -> str | None:
    first = re.search(r"gemma-scope-(2b|9b|27b)-(pt|it)", name)
    if first:
        return f"google/gemma-2-{first[1]}" + ("-it" if first[2] == "it" else "")
    second = re.search(r"gemma-scope-2-(270m|1b|4b|12b|27b)-(pt|it)", name)
    if second is None:
        return None
    # The smallest base model alone is released without "-pt".
    return f"google/gemma-3-{second[1]}" + ("" if second.groups() == ("270m", "pt") else f"-{second[2]}")
