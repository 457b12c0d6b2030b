"""A finished training run, opened for looking at: its SAE, its model, its text."""

from dataclasses import dataclass
from pathlib import Path

from interp.datasets import Split, TokenStream, open_stream
from interp.errors import ArtifactError
from interp.models import Model
from interp.runs import RunFolder
from saes.base import SAE
from saes.facts import SAEFacts
from saes.io import load_facts, load_sae
from saes.origin import load_models
from saes.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class RunParts:
    """What an analysis of a run needs. The model and the SAE are on the same device."""

    run: RunFolder
    config: TrainConfig
    model: Model
    sae: SAE
    facts: SAEFacts

    def stream(self, split: Split, *, dataset: str | None = None) -> TokenStream:
        """Token batches of the run's data set, or of another with the run's masks and rows."""
        return open_stream(dataset or self.config.dataset, self.model, self.config.data, split=split)


def open_run(path: Path | str, *, model_name: str | None = None, device: str = "auto") -> RunParts:
    """Load what `interp train` left in a run folder.

    Raises: ArtifactError if the run is not finished, is of another kind, or its model has changed since.
    """
    run = RunFolder.open(path)
    manifest = run.manifest()
    if manifest.kind != "sae":
        raise ArtifactError(f"{path}: holds a run of kind {manifest.kind!r}; expected one of `interp train`")
    if manifest.status != "finished":
        raise ArtifactError(f"{path}: training was not finished; go on with `interp train --resume`")
    config = run.config(TrainConfig)
    model = load_models(config, name=model_name, device=device)
    if model.content_hash != manifest.model.get("content_hash"):
        raise ArtifactError(
            f"{path}: model {model.name} differs from the one the run was trained on "
            f"({model.content_hash[:12]}… now, {str(manifest.model.get('content_hash'))[:12]}… then); "
            "give the right one with --model"
        )
    for name, then in manifest.model.get("others", {}).items():
        if model.others[name].content_hash != then.get("content_hash"):
            raise ArtifactError(f"{path}: the other model, {model.others[name].name}, has changed since; restore it")
    sae = load_sae(run.sae, device=model.device)
    return RunParts(run, config, model, sae, load_facts(run.sae))
