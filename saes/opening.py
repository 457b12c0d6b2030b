"""A saved SAE with the model it belongs to, from a run folder or from a folder of its own."""

from dataclasses import dataclass
from pathlib import Path

from interp.datasets import DataConfig, MaskPolicy
from interp.errors import ArtifactError
from interp.models import Model, load_model
from interp.storage import is_there
from saes.base import SAE
from saes.facts import SAEFacts, check_same_model, check_width
from saes.io import load
from saes.run_parts import open_run


@dataclass(frozen=True, slots=True)
class OpenedSAE:
    """What using an SAE outside its training run needs. The model and the SAE are on the same device."""

    path: Path
    model: Model
    sae: SAE
    facts: SAEFacts

    @property
    def rows(self) -> DataConfig:
        """How its text was made into rows, as far as that was saved; the defaults where it was not."""
        data = self.facts.data
        known = {name: data[name] for name in ("context_size", "prepend_bos") if data.get(name) is not None}
        mask = MaskPolicy() if self.facts.mask_policy is None else MaskPolicy.parse(self.facts.mask_policy)
        size = min(DataConfig().context_size, self.model.context_size)
        return DataConfig.parse({"context_size": size, **known, "mask": mask})


def open_sae(
    source: Path | str, sae_id: str | None = None, *, model_name: str | None = None, device: str = "auto"
) -> OpenedSAE:
    """Open a finished run, or an SAE of any format that `saes.load` reads, with the model named in it or given.

    Raises: ArtifactError if nothing usable is there, no model is named, or the model is another one.
    """
    path = Path(source)
    if is_there(path / "manifest.json"):
        parts = open_run(path, model_name=model_name, device=device)
        return OpenedSAE(parts.run.sae, parts.model, parts.sae, parts.facts)
    sae, facts = load(source, sae_id)
    name = model_name or facts.model.get("name")
    if not name:
        raise ArtifactError(f"{path}: does not say which model the SAE belongs to; give it with --model")
    model = load_model(name, device=device, dtype=facts.model.get("dtype") or "float32")
    check_same_model(facts, model)
    check_width(facts.hook, sae.d_in, model)
    return OpenedSAE(path / (sae_id or ""), model, sae.to(model.device), facts)
