"""Training that begins with the weights of another SAE."""

from pathlib import Path

import torch
from torch import Tensor

from interp.errors import ArtifactError
from saes.base import SAE
from saes.crosscoder import Crosscoding
from saes.inference_only import InferenceOnlySAE
from saes.io import load_sae
from saes.transcoder import Transcoder, Transcoding

THRESHOLDED = ("batch_topk", "matryoshka", "jumprelu")
"""Architectures that train a threshold."""


@torch.no_grad()
def warm_start(sae: SAE, source: Path) -> None:
    """Take weights, biases and thresholds from a run's or a folder's SAE, in the scaled units that `sae` trains in.

    Thresholds are taken where both have such: one for all is what the other's mean is.

    Raises: ArtifactError if there is none, or it is of other widths or hooks.
    """
    other = load_sae(source / "sae" if (source / "sae").is_dir() else source, device=sae.W_enc.device)
    _check(sae, other, source)
    other = other if isinstance(other, Transcoder) or isinstance(sae.wiring, Crosscoding) else other.folded()
    if isinstance(sae.wiring, Transcoding):
        _take_transcoder(sae, sae.wiring, other)
        return
    sae.W_enc.copy_(other.W_enc)
    sae.W_dec.copy_(other.W_dec)
    # A crosscoder is saved in the units of its own scales.
    scale = sae.input_scale if sae.input_scale.ndim == 0 else sae.b_dec.new_ones(())
    if sae.input_scale.ndim:
        sae.input_scale.copy_(other.input_scale)
    for name in ("b_enc", "b_dec", *sae.biases):
        getattr(sae, name).copy_(getattr(other, name, torch.zeros_like(getattr(sae, name))) * scale)
    _take_threshold(sae, other.threshold * scale)
    if hasattr(sae, "r_mag") and hasattr(other, "r_mag"):
        sae.get_parameter("r_mag").copy_(other.get_parameter("r_mag"))
    elif "b_mag" in sae.biases:
        # One path alone says both what fires and how strongly.
        sae.get_parameter("b_mag").copy_(sae.b_enc)


def _take_transcoder(sae: SAE, wiring: Transcoding, other: SAE) -> None:
    scale = wiring.scale_out / sae.input_scale
    sae.W_enc.copy_(other.W_enc * scale)
    sae.W_dec.copy_(other.W_dec)
    sae.b_enc.copy_(other.b_enc * wiring.scale_out + sae.W_enc @ wiring.b_in)
    sae.b_dec.copy_(other.b_dec * wiring.scale_out)
    if wiring.W_skip is not None and isinstance(other, Transcoder) and other.W_skip is not None:
        wiring.W_skip.copy_(other.W_skip * scale)
        sae.b_dec.add_(wiring.W_skip @ wiring.b_in)
    _take_threshold(sae, other.threshold * wiring.scale_out)


def _take_threshold(sae: SAE, threshold: Tensor) -> None:
    # An SAE that keeps a given number has none, what is always on above zero takes none: it would never move again.
    if not bool((threshold > 0).any()) or sae.config.architecture not in THRESHOLDED:
        return
    sae.threshold.copy_(threshold.mean() if sae.threshold.ndim == 0 else threshold.expand(sae.d_sae))


def _check(sae: SAE, other: SAE, source: Path) -> None:
    wanted, got = _told(sae), _told(other)
    if got != wanted:
        raise ArtifactError(f"{source}: got {got}; expected {wanted}, as the config says; give another warm_start")
    if isinstance(other, InferenceOnlySAE) and not isinstance(other, Transcoder):
        raise ArtifactError(f"{source}: got a {type(other).__name__}, which is for inference only; give another SAE")
    drops = isinstance(sae.wiring, Transcoding) and sae.wiring.W_skip is None
    if drops and isinstance(other, Transcoder) and other.W_skip is not None:
        raise ArtifactError(f"{source}: got a skip transcoder; expected one without; give sae.skip too")


def _told(sae: SAE) -> str:
    size = f"{sae.d_sae:,} features from width {sae.d_in} to {sae.d_out}"
    hooks = ", ".join(sae.hooks_in)
    return f"{size} at {hooks if sae.hooks_in == sae.hooks_out else f'{hooks} -> ' + ', '.join(sae.hooks_out)}"
