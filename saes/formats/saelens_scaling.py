"""The factor by which SAELens multiplied activations while training, where cfg.json leaves it out."""

from pathlib import Path

from interp.errors import ArtifactError
from interp.storage import read_json
from saes.formats.source import Source

SCALER = "activation_scaler.json"
"""Beside the weights of a checkpoint; at the end of training the factor goes into the weights."""

_GPT2_MLP_OUT = (
    ("0.hook_mlp_out_24576:v1", 1.049317316132615),
    ("1.hook_mlp_out_24576:v0", 2.3693984005104283),
    ("2.hook_mlp_out_24576:v0", 1.6411934982190302),
    ("3.hook_mlp_out_24576:v0", 1.8958522157897557),
    ("4.hook_mlp_out_24576:v0", 1.81673478700627),
    ("5.hook_mlp_out_24576:v0", 1.550234472245924),
    ("6.hook_mlp_out_24576:v0", 1.3237742807210804),
    ("7.hook_mlp_out_24576:v0", 1.1042905114723296),
    ("8.hook_mlp_out_24576:v1", 0.9123762783479742),
    ("9.hook_mlp_out_24576:v0", 0.6955335635232373),
    ("10.hook_mlp_out_24576:v0", 0.3619728926727644),
    ("11.hook_mlp_out_24576:v2", 0.2851548652550073),
)
KNOWN = {
    "tommmcgrath/gpt2-small-mlp-out-saes": {f"sae_group_gpt2_blocks.{name}": scale for name, scale in _GPT2_MLP_OUT},
    "jbloom/Gemma-2b-Residual-Stream-SAEs": {"gemma_2b_blocks.12.hook_resid_post_16384": 0.21381938399317255},
}
"""Released SAEs whose factor stands in SAELens's directory of releases only: repository -> id -> factor."""


def known_scale(source: Source) -> float | None:
    """The factor of a released SAE that its files do not hold."""
    sae_id = source.sae_id or source.folder.name
    return next((scales.get(sae_id) for repository, scales in KNOWN.items() if source.is_of(repository)), None)


def saved_scale(folder: Path) -> float | None:
    """The factor beside a checkpoint's weights.

    Raises: ArtifactError if the file is there and holds none.
    """
    if not (folder / SCALER).exists():
        return None
    values = read_json(folder / SCALER)
    scale = values.get("scaling_factor") if isinstance(values, dict) else None
    if scale is None:
        return None
    if not isinstance(scale, int | float) or not scale > 0:
        raise ArtifactError(f"{SCALER}: scaling_factor: got {scale!r}; expected a positive number")
    return float(scale)
