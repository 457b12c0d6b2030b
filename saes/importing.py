"""From an SAE that someone else trained to a run folder, which everything else here takes."""

from pathlib import Path
from typing import Any

from interp.datasets import DataConfig, MaskPolicy, open_stream
from interp.errors import ArtifactError
from interp.models import load_model
from interp.runs import RunFolder, RunManifest
from saes.base import SAE
from saes.facts import SAEFacts, check_same_model, check_width
from saes.io import load, save_sae
from saes.training import TrainConfig


def import_sae(
    source: Path | str,
    sae_id: str | None = None,
    *,
    out: Path | str,
    dataset: str,
    model_name: str | None = None,
    hook: str | None = None,
    activation_scale: float | None = None,
    device: str = "auto",
) -> RunFolder:
    """Write a finished run folder around an SAE of any known format, with `dataset` as the text to look at it on.

    Context size, BOS and masks are those that its files tell, else the defaults. What is not known of its training is
    not made up: the folder has no metrics and no checkpoints.

    Raises: ArtifactError if the SAE cannot be read, names no model, or does not fit the model; ConfigError if `out`
    holds a run already or the SAE is one that no format we write can hold.
    """
    sae, facts = load(source, sae_id, hook=hook, activation_scale=activation_scale)
    name = model_name or facts.model.get("name")
    if not name:
        raise ArtifactError(f"{source}: does not say which model the SAE belongs to; give it with --model")
    model = load_model(name, device=device)
    check_same_model(facts, model)
    check_width(sae.hooks_in[0], sae.d_in, model)
    config = _config(sae, facts, name=name, dataset=dataset, out=out)
    data = open_stream(dataset, model, config.data, split="heldout").facts
    manifest = RunManifest.begin("sae", seed=config.seed, model=model.facts, data=data)
    run = RunFolder.begin(out, config, manifest)
    save_sae(run.sae, sae, {"model": model.facts, "data": dict(facts.data), "seed": facts.seed})
    results = {
        "architecture": facts.architecture,
        "imported_from": str(source) if sae_id is None else f"{source}/{sae_id}",
    }
    run.write_manifest(manifest.model_copy(update={"status": "finished", "results": results}))
    return run


def _config(sae: SAE, facts: SAEFacts, *, name: str, dataset: str, out: Path | str) -> TrainConfig:
    """What says how to look at the SAE; how it was trained is not known."""
    mask = MaskPolicy() if facts.mask_policy is None else MaskPolicy.parse(facts.mask_policy)
    known = {key: facts.data[key] for key in ("context_size", "prepend_bos") if facts.data.get(key) is not None}
    data = DataConfig.parse({**known, "mask": mask})
    values: dict[str, Any] = {"model": name, "dataset": dataset, "hook": facts.hook, "out": out}
    return TrainConfig.parse({**values, "sae": sae.config, "data": data})
