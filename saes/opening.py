"""A saved SAE with the model it belongs to, from a run folder or from a folder of its own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.datasets import DataConfig, MaskPolicy
from interp.errors import ArtifactError, ConfigError
from interp.models import Model, load_model
from interp.storage import is_there
from saes.base import SAE
from saes.facts import SAEFacts, check_same_model
from saes.hook_layout import check_width
from saes.io import load
from saes.model_fit import fitted
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
        """How its text was made into rows, as far as that was saved; the defaults where it was not.

        Raises: ArtifactError if that was with a token that the model's tokenizer does not have.
        """
        data = self.facts.data
        known = {name: data[name] for name in ("context_size", "prepend_bos") if data.get(name) is not None}
        if known.get("prepend_bos") and self.model.bos_token_id is None:
            raise ArtifactError(
                f"{self.path}: says that a BOS token stood before each text; {self.model.name}'s tokenizer has none "
                "(TransformerLens puts its EOS there); give another --model, or --no-bos to go on without"
            )
        mask = MaskPolicy() if self.facts.mask_policy is None else MaskPolicy.parse(self.facts.mask_policy)
        size = min(DataConfig().context_size, self.model.context_size)
        return DataConfig.parse({"context_size": size, **known, "mask": mask})


def open_sae(
    source: Path | str,
    sae_id: str | None = None,
    *,
    model_name: str | None = None,
    device: str = "auto",
    hook: str | None = None,
    activation_scale: float | None = None,
    prepend_bos: bool | None = None,
) -> OpenedSAE:
    """Open a finished run, or an SAE of any format that `saes.load` reads, with the model named in it or given.

    `hook`, `activation_scale` and `prepend_bos` are for files that do not say, or not so that it fits the model.

    Raises: ArtifactError if nothing usable is there, no model is named, or the model is another one; ConfigError for
    a run that is told what it knows.
    """
    path = Path(source)
    if not is_there(path / "manifest.json"):
        said: dict[str, Any] = {"hook": hook, "activation_scale": activation_scale, "prepend_bos": prepend_bos}
        return open_stored(source, sae_id, model_name=model_name, device=device, **said)
    if (hook, activation_scale, prepend_bos) != (None, None, None):
        raise ConfigError(f"{path}: is a run, which holds its hook, scale and rows; leave out what is said of them")
    parts = open_run(path, model_name=model_name, device=device)
    return OpenedSAE(parts.run.sae, parts.model, parts.sae, parts.facts)


def open_stored(
    source: Path | str,
    sae_id: str | None,
    *,
    model_name: str | None,
    device: str,
    hook: str | None,
    activation_scale: float | None,
    prepend_bos: bool | None,
) -> OpenedSAE:
    """Open an SAE of any format that `saes.load` reads, fitted to its model.

    Raises: as `open_sae` does.
    """
    path = Path(source) / (sae_id or "")
    sae, facts = load(source, sae_id, hook=hook, activation_scale=activation_scale)
    name = model_name or facts.model.get("name")
    if not isinstance(name, str) or not name:
        raise ArtifactError(f"{path}: does not say which model the SAE belongs to; give it with --model")
    model = load_model(name, device=device, dtype=facts.model.get("dtype") or "float32")
    check_same_model(facts, model)
    try:
        sae, facts = fitted(sae.to(model.device), facts, model)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    check_width(model, sae.hooks_in, sae.d_in)
    if prepend_bos is not None:
        facts = replace(facts, data={**facts.data, "prepend_bos": prepend_bos})
    return OpenedSAE(path, model, sae, facts)
