"""SAEs on disk: a folder that SAELens 6 reads, with our own facts in interp.json beside its two files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from interp.errors import ArtifactError, ConfigError
from interp.storage import new_folder, read_json, read_tensors, write_json, write_tensors
from saes.base import SAE
from saes.config import SAEConfig
from saes.facts import SAEFacts
from saes.saelens_format import StoredSAE, from_saelens, to_saelens

SCHEMA_VERSION = 1
CONFIG, WEIGHTS, OWN = "cfg.json", "sae_weights.safetensors", "interp.json"


def save_sae(folder: Path, sae: SAE, facts: Mapping[str, Any]) -> None:
    """Write an SAE so that both SAELens 6 and `load_sae` read it; the folder appears whole or not at all.

    Input scale and free decoder norms are folded into the weights. `facts` are what evaluation holds an SAE to:
    `model` and `data` as manifests record them, `seed`, `training_tokens`, `frozen_decoder`.

    Raises: StorageError if it cannot be written; ConfigError for an SAE of several hooks, which the format cannot hold.
    """
    if len(sae.hooks_in) != 1 or sae.hooks_in != sae.hooks_out:
        raise ConfigError(f"got hooks {sae.hooks_in} -> {sae.hooks_out}; the SAELens format holds SAEs of one hook")
    folded = sae.folded()
    config, tensors = to_saelens(folded, facts)
    own = {
        "schema_version": SCHEMA_VERSION,
        "hook": sae.hooks_in[0],
        "architecture": folded.config.architecture,
        "prefixes": list(folded.config.prefix_widths()),
        "normalisation": "none: folded into the weights",
        **{name: value for name, value in facts.items() if name != "hook"},
        "sae": folded.config.model_dump(mode="json"),
    }
    with new_folder(folder) as temporary:
        digest = write_tensors(temporary / WEIGHTS, tensors)
        write_json(temporary / CONFIG, config)
        write_json(temporary / OWN, {**own, "sha256": digest})


def load_sae(folder: Path | str, *, device: torch.device | str = "cpu") -> SAE:
    """Read a folder that `save_sae` wrote, or one that SAELens 6 wrote, if of an architecture that we have.

    Raises: ArtifactError, in one line, for anything missing, damaged, contradictory or not supported.
    """
    return _read(Path(folder)).build(device)


def load_facts(folder: Path | str) -> SAEFacts:
    """Where a saved SAE comes from; of one from elsewhere only hook, architecture and model name are known.

    Raises: ArtifactError as `load_sae` does.
    """
    own = _own(Path(folder))
    if own is None:
        stored, model = _read(Path(folder)), read_json(Path(folder) / CONFIG)["metadata"].get("model_name")
        return SAEFacts(stored.hook, stored.config.architecture, stored.config.prefix_widths(), {"name": model})
    try:
        return SAEFacts(
            hook=own["hook"],
            architecture=own["architecture"],
            prefixes=tuple(own["prefixes"]),
            model=own.get("model") or {},
            data=own.get("data") or {},
            seed=own.get("seed"),
            training_tokens=own.get("training_tokens"),
            frozen_decoder=bool(own.get("frozen_decoder", False)),
        )
    except KeyError as error:
        raise ArtifactError(f"{Path(folder) / OWN}: no {error} in it; save the SAE again") from None


def _read(folder: Path) -> StoredSAE:
    if not (folder / CONFIG).exists():
        hint = f"give {folder / 'sae'}" if (folder / "sae" / CONFIG).exists() else "give the folder that holds cfg.json"
        raise ArtifactError(f"{folder}: holds no saved SAE; {hint}")
    own = _own(folder)
    tensors = read_tensors(folder / WEIGHTS, sha256=None if own is None else own.get("sha256"))
    values = read_json(folder / CONFIG)
    try:
        config = None if own is None else SAEConfig.parse(own["sae"], source=OWN)
        return from_saelens(values, tensors, config)
    except (ArtifactError, ConfigError) as error:
        raise ArtifactError(f"{folder}: {error}") from None


def _own(folder: Path) -> dict[str, Any] | None:
    """Our facts; None where SAELens wrote the folder."""
    path = folder / OWN
    if not path.exists():
        return None
    own = read_json(path)
    if not isinstance(own, dict) or own.get("schema_version") != SCHEMA_VERSION or not isinstance(own.get("sae"), dict):
        raise ArtifactError(f"{path}: not the facts of an SAE, version {SCHEMA_VERSION}; save the SAE again")
    return own
