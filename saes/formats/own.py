"""Our own layout, for dictionaries that SAELens's cannot hold: crosscoders, transcoders that keep k features, k-means,
codebooks.

interp.json beside sae_weights.safetensors, whose tensors are those of the object itself, the two weight matrices
transposed as everywhere on disk.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interp.errors import ArtifactError, ConfigError
from saes.architectures import create_sae
from saes.base import SAE
from saes.centroids import NearestCentroid
from saes.codebook_base import CodebookSAE
from saes.config import CODEBOOK, SAEConfig
from saes.crosscoder import Crosscoding
from saes.transcoder import Transcoder

LAYOUT = "interp"
KMEANS = "kmeans"
_MATRICES = ("W_enc", "W_dec")
_NOT_SAVED = ("tokens_since_fired", "n_updates", "n_fallbacks", "l1", "gap")


def is_own(sae: SAE) -> bool:
    """Whether only our own layout holds it."""
    kept = isinstance(sae, Transcoder) and sae.config.architecture == "topk"
    return kept or isinstance(sae, NearestCentroid | CodebookSAE) or isinstance(sae.wiring, Crosscoding)


def to_own(sae: SAE) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What interp.json says of the layout, and the tensors, of a folded dictionary."""
    wiring = sae.wiring
    facts: dict[str, Any] = {
        "layout": LAYOUT,
        "hooks_in": list(sae.hooks_in),
        "hooks_out": list(sae.hooks_out),
        "d_in": sae.d_in,
        "d_out": sae.d_out,
        "hook_widths": list(wiring.widths) if isinstance(wiring, Crosscoding) else [],
    }
    if isinstance(sae, NearestCentroid):
        facts |= {"architecture": KMEANS, "normalisation": "none: folded into the weights"}
    if isinstance(sae, CodebookSAE):
        facts |= {"architecture": CODEBOOK, "normalisation": "none: folded into the weights"}
    tensors = {name: tensor.detach() for name, tensor in sae.state_dict().items() if name not in _NOT_SAVED}
    tensors |= {name: tensors[name].t() for name in _MATRICES}
    return facts, {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def from_own(own: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device | str) -> SAE:
    """The dictionary that `to_own` wrote.

    Raises: ArtifactError if facts and tensors do not fit together.
    """
    try:
        config = SAEConfig.parse(own["sae"], source="interp.json")
        hooks: dict[str, Any] = {"hooks_in": tuple(own["hooks_in"]), "hooks_out": tuple(own["hooks_out"])}
        d_in, d_out, widths = own["d_in"], own["d_out"], own["hook_widths"]
    except KeyError as error:
        raise ArtifactError(f"interp.json: no {error} in it; save the SAE again") from None
    except ConfigError as error:
        raise ArtifactError(str(error)) from None
    sae: SAE
    if own.get("architecture") == KMEANS:
        sae = NearestCentroid(config, d_in, device=device, **hooks)
    elif config.architecture == CODEBOOK:
        sae = create_sae(config, d_in, device=device, **hooks)
    elif widths:
        sae = create_sae(config, d_in, hook_widths=widths, device=device, **hooks)
    else:
        sae = Transcoder(config, d_in, d_out, skip="W_skip" in tensors, device=device, **hooks)
    state = sae.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if name not in _NOT_SAVED}
    turned = {name: tensor.t() if name in _MATRICES else tensor for name, tensor in tensors.items()}
    got = {name: tuple(tensor.shape) for name, tensor in turned.items()}
    if expected != got:
        name = next(name for name in expected | got if expected.get(name) != got.get(name))
        raise ArtifactError(f"got {name} of shape {got.get(name)}; expected {expected.get(name)}; save the SAE again")
    sae.load_state_dict({**state, **turned})
    return sae.eval()
