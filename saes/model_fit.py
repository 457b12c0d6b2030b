"""What an SAE's files cannot say without the model: the same SAE at the hooks that this model has."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArtifactError
from interp.models import Model
from saes.base import SAE
from saes.facts import SAEFacts
from saes.normalised import NormalisedSAE
from saes.transcoder import Transcoder

BEFORE_GAIN, AFTER_GAIN = ".hook_normalized", ".hook_out"
"""A norm's output before and after it is multiplied by the norm's gain; only the latter is a hook here."""


def fitted(sae: SAE, facts: SAEFacts, model: Model) -> tuple[SAE, SAEFacts]:
    """The SAE as a function of this model's own activations.

    TransformerLens centres what writes to the stream of LayerNorm models alone, whatever it was asked for: with RMS
    norms there is no mean to take off. A transcoder that reads a norm before its gain reads it after the gain here.

    Raises: ArtifactError if the module it was trained on stands at none of our hooks, or a gain is zero.
    """
    _check_module(sae, facts, model)
    if not model.paths.rms_norm:
        return sae, facts
    if isinstance(sae, NormalisedSAE) and sae.normalisation == "centre":
        return sae.inner, facts
    if isinstance(sae, Transcoder) and facts.hook.endswith(BEFORE_GAIN):
        hook = facts.hook.removesuffix(BEFORE_GAIN) + AFTER_GAIN
        return sae.reading(hook, gain=_gain(model, hook).to(sae.W_enc)), replace(facts, hook=hook)
    return sae, facts


def _check_module(sae: SAE, facts: SAEFacts, model: Model) -> None:
    if facts.module is None:
        return
    point = model.hook(sae.hooks_out[0])
    if not point.module_path.endswith(f".{facts.module}"):
        raise ArtifactError(
            f"trained on what module {facts.module} gives, which is not {point.name} in {model.name}: that is "
            f"{point.module_path}; no hook here has it; say so if it was trained at another, as in "
            "hook='blocks.6.hook_resid_post'"
        )


@torch.no_grad()
def _gain(model: Model, hook: str) -> Float[Tensor, " d"]:
    point = model.hook(hook)
    norm = model.hf.get_submodule(point.module_path)
    # The root mean square of ones is one: what the norm makes of them is its gain, whether it keeps it as w or 1 + w.
    gain: Tensor = norm(torch.ones(1, point.width, device=model.device))[0].float()
    if not bool((gain.isfinite() & (gain != 0)).all()):
        raise ArtifactError(f"{hook} in {model.name}: got a gain of zero; what stands before it cannot be told")
    return gain
