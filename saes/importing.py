"""From an SAE that someone else trained to a run folder, which everything else here takes."""

from pathlib import Path
from typing import Any

from interp.datasets import open_stream
from interp.runs import RunFolder, RunManifest, nothing_left
from saes.io import save_sae
from saes.opening import OpenedSAE, open_stored
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
    prepend_bos: bool | None = None,
    device: str = "auto",
) -> RunFolder:
    """Write a finished run folder around an SAE of any known format, with `dataset` as the text to look at it on.

    Context size, BOS and masks are those that its files tell, else the defaults. What is not known of its training is
    not made up: the folder has no metrics and no checkpoints. If it fails, nothing of it is left in `out`.

    Raises: ArtifactError if the SAE cannot be read, names no model, or does not fit the model; ConfigError if `out`
    holds a run already or the SAE is one that no format we write can hold.
    """
    said: dict[str, Any] = {"hook": hook, "activation_scale": activation_scale, "prepend_bos": prepend_bos}
    opened = open_stored(source, sae_id, model_name=model_name, device=device, **said)
    model, facts = opened.model, opened.facts
    config = _config(opened, dataset=dataset, out=out)
    data = open_stream(dataset, model, config.data, split="heldout").facts
    results = {
        "architecture": facts.architecture,
        "imported_from": str(source) if sae_id is None else f"{source}/{sae_id}",
    }
    manifest = RunManifest.begin("sae", seed=config.seed, model=model.facts, data=data)
    with nothing_left(Path(out)):
        run = RunFolder.begin(out, config, manifest)
        save_sae(run.sae, opened.sae, {"model": model.facts, "data": dict(facts.data), "seed": facts.seed})
        run.write_manifest(manifest.model_copy(update={"status": "finished", "results": results}))
    return run


def _config(opened: OpenedSAE, *, dataset: str, out: Path | str) -> TrainConfig:
    """What says how to look at the SAE; how it was trained is not known."""
    model = opened.model
    values = {"model": model.name, "dtype": model.facts["dtype"], "dataset": dataset, "hook": opened.facts.hook}
    return TrainConfig.parse({**values, "out": out, "sae": opened.sae.config, "data": opened.rows})
