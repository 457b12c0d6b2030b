"""SAEs on disk: a folder that SAELens 6 reads, with our own facts in interp.json beside its two files.

What that format cannot hold is written without cfg.json, so that SAELens does not take it for something else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from interp.errors import ArtifactError, ConfigError
from interp.storage import is_there, new_folder, read_json, read_tensors, write_json, write_tensors
from saes.base import SAE
from saes.config import SAEConfig
from saes.crosscoder import Crosscoding
from saes.facts import SAEFacts
from saes.formats.detection import read_stored
from saes.formats.hub import fetch
from saes.formats.own import LAYOUT, from_own, is_own, to_own
from saes.formats.saelens import CONFIG, WEIGHTS, from_saelens
from saes.formats.saelens_config import as_version_6
from saes.formats.saelens_write import to_saelens
from saes.formats.source import Source
from saes.formats.stored import StoredSAE
from saes.normalised import NormalisedSAE

SCHEMA_VERSION = 1
OWN = "interp.json"
THRESHOLDED = ("batch_topk", "matryoshka")
_KEPT = ("model", "data", "seed", "training_tokens", "frozen_decoder")


def save_sae(folder: Path | str, sae: SAE, facts: SAEFacts | Mapping[str, Any]) -> None:
    """Write an SAE so that both SAELens 6 and `load_sae` read it; the folder appears whole or not at all.

    Input scale and free decoder norms are folded into the weights. `facts` are what evaluation holds an SAE to:
    `model` and `data` as manifests record them, `seed`, `training_tokens`, `frozen_decoder`; or the facts that
    `load`, `open_sae` and `open_run` give, of which these are kept.

    Raises: StorageError if it cannot be written; ConfigError for an SAE that no format holds.
    """
    if max(len(sae.hooks_in), len(sae.hooks_out)) > 1 and not isinstance(sae.wiring, Crosscoding):
        raise ConfigError(f"got hooks {sae.hooks_in} -> {sae.hooks_out}; expected one hook, or a crosscoder's widths")
    folded, facts = sae.folded(), _to_write(facts)
    if is_own(folded):
        config = None
        layout, tensors = to_own(folded)
        told = {"architecture": _wired_name(folded), "normalisation": "scaled at run time", **layout}
    else:
        config, tensors = to_saelens(folded, facts)
        name = _architecture_name(config["architecture"], folded.config)
        told = {"architecture": name, "normalisation": _normalisation(sae)}
    own = {
        "schema_version": SCHEMA_VERSION,
        "hook": sae.hooks_in[0],
        "prefixes": list(folded.config.prefix_widths()),
        **told,
        **{name: value for name, value in facts.items() if name != "hook"},
        "sae": folded.config.model_dump(mode="json"),
    }
    with new_folder(Path(folder)) as temporary:
        digest = write_tensors(temporary / WEIGHTS, tensors)
        if config is not None:
            write_json(temporary / CONFIG, config)
        write_json(temporary / OWN, {**own, "sha256": digest})


def load(
    source: Path | str,
    sae_id: str | None = None,
    *,
    device: torch.device | str = "cpu",
    hook: str | None = None,
    activation_scale: float | None = None,
) -> tuple[SAE, SAEFacts]:
    """An SAE of any known format and what is known of its origin, from a folder, a file or the hub.

    `load("runs/x/sae")`, `load("google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_82")`. With
    HF_HUB_OFFLINE set, the hub's cache alone is read. `hook` and `activation_scale` (activations were multiplied by it
    in training) are for files that do not say. What only the model can tell is left to `open_sae` and `splice`.

    Raises: ArtifactError, in one line, for anything missing, damaged, contradictory or not supported.
    """
    path = Path(source).expanduser()
    if is_there(path):
        found = Source.of(path / sae_id if sae_id else path, hook=hook, activation_scale=activation_scale)
    elif str(source).count("/") != 1 or str(source).startswith((".", "~", "/")):
        raise ArtifactError(f"{source}: no such folder or file; give one, or a hub repository as owner/name")
    else:
        found = fetch(str(source), sae_id, hook=hook, activation_scale=activation_scale)
    own = _own(found.path)
    if own is not None and own.get("layout") == LAYOUT:
        return load_sae(found.path, device=device), _own_facts(found.path, own)
    stored = _read(found)
    return _built(found.path, stored, device), stored.facts if own is None else _own_facts(found.path, own)


def load_sae(folder: Path | str, *, device: torch.device | str = "cpu") -> SAE:
    """Read a folder that `save_sae` wrote, or one of another library's in a format that `load` knows.

    Raises: ArtifactError as `load` does.
    """
    own = _own(Path(folder))
    if own is not None and own.get("layout") == LAYOUT:
        tensors = read_tensors(Path(folder) / WEIGHTS, sha256=own.get("sha256"))
        try:
            return from_own(own, tensors, device)
        except ArtifactError as error:
            raise ArtifactError(f"{folder}: {error}") from None
    return _built(Path(folder), _read(Source.of(Path(folder))), device)


def load_facts(folder: Path | str) -> SAEFacts:
    """Where a saved SAE comes from; of one from elsewhere what its files and their names say.

    Raises: ArtifactError as `load` does.
    """
    own = _own(Path(folder))
    return _read(Source.of(Path(folder))).facts if own is None else _own_facts(Path(folder), own)


def _read(source: Source) -> StoredSAE:
    own = _own(source.path)
    if own is None:
        return read_stored(source)
    tensors = read_tensors(source.path / WEIGHTS, sha256=own.get("sha256"))
    values = read_json(source.path / CONFIG)
    try:
        config = SAEConfig.parse(own["sae"], source=OWN)
        stored = from_saelens(as_version_6(values), tensors, source, config)
        _check_same(config, values)
        return stored
    except (ArtifactError, ConfigError) as error:
        raise ArtifactError(f"{source.path}: {error}") from None


def _built(path: Path, stored: StoredSAE, device: torch.device | str) -> SAE:
    try:
        return stored.build(device)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _own(folder: Path) -> dict[str, Any] | None:
    """Our facts; None where another library wrote the folder."""
    path = folder / OWN
    if not folder.is_dir() or not path.exists():
        return None
    own = read_json(path)
    if not isinstance(own, dict) or own.get("schema_version") != SCHEMA_VERSION or not isinstance(own.get("sae"), dict):
        raise ArtifactError(f"{path}: not the facts of an SAE, version {SCHEMA_VERSION}; save the SAE again")
    return own


def _own_facts(folder: Path, own: Mapping[str, Any]) -> SAEFacts:
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
        raise ArtifactError(f"{folder / OWN}: no {error} in it; save the SAE again") from None


def _to_write(facts: SAEFacts | Mapping[str, Any]) -> Mapping[str, Any]:
    """Facts by name; hook, architecture and prefixes are written as the SAE itself has them."""
    if not isinstance(facts, SAEFacts):
        return facts
    kept = {name: getattr(facts, name) for name in _KEPT}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _wired_name(sae: SAE) -> str:
    kind = "crosscoder" if isinstance(sae.wiring, Crosscoding) else "transcoder"
    return f"{sae.config.architecture} {kind}"


def _architecture_name(written: str, config: SAEConfig) -> str:
    """Our name for what SAELens calls `written`: two of ours are its jumprelu, and it has four kinds of transcoder."""
    if "transcoder" in written:
        return "transcoder"
    return config.architecture if written == "jumprelu" and config.architecture in THRESHOLDED else written


def _normalisation(sae: SAE) -> str:
    return f"{sae.normalisation} at run time" if isinstance(sae, NormalisedSAE) else "none: folded into the weights"


def _check_same(config: SAEConfig, values: Mapping[str, Any]) -> None:
    """Our own config must agree with what SAELens would read."""
    said = {"d_sae": values["d_sae"]} | ({"k": values.get("k")} if values["architecture"] == "topk" else {})
    for name, value in said.items():
        if getattr(config, name) != value:
            raise ArtifactError(
                f"{name}: got {value!r} in cfg.json and {getattr(config, name)} in interp.json; restore both"
            )
    if (values["architecture"] == "topk") != (config.architecture == "topk") or (
        values["architecture"] == "standard" and config.architecture != "standard"
    ):
        raise ArtifactError(
            f"architecture: got {values['architecture']} in cfg.json and {config.architecture} in interp.json; "
            "restore both"
        )
