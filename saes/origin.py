"""Where the activations of a training run come from: a model that reads text, or a folder that was collected before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from interp.activations.courier import same_device
from interp.activations.delivery import Delivered
from interp.activations.harvest import ActivationSource
from interp.activations.spread import open_harvest
from interp.activations.store import StoredActivations
from interp.datasets import DataConfig, TokenStream, open_stream
from interp.distributed import ALONE, Ranks
from interp.errors import ConfigError
from interp.models import Model, load_model, resolve_device
from interp.runs import RunManifest
from saes.facts import data_difference
from saes.train_config import OTHER, TrainConfig

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Origin:
    """A source of activations, with what a manifest says of it."""

    source: ActivationSource
    model: dict[str, Any]
    data: dict[str, Any]
    stream: TokenStream | None = None
    _told: dict[str, Any] = field(default_factory=dict)

    def recorded_data(self) -> dict[str, Any]:
        """Facts of the data and how much held-out text the training text repeats; a store's manifest says it already.

        Reads text the first time, so it is asked for once whatever comes of it.
        """
        if self.stream is not None and not self._told:
            self._told.update(self.stream.overlap(self.stream.with_split("heldout")))
        return {**self.data, **self._told}

    def take_recorded(self, data: Mapping[str, Any]) -> None:
        """What another rank's `recorded_data` gave: it is not read again."""
        self._told.update(data)


def open_origin(config: TrainConfig, hooks: Sequence[str] | None = None, *, ranks: Ranks = ALONE) -> Origin:
    """The source that `config` names, harvested at `hooks` (by default those the config reads and reconstructs).

    Several ranks share the forward passes, and each gets everything. Activations come on the SAE's device.

    Raises: ConfigError if activations on disk were collected otherwise than the config says, or a device is not there;
    UnknownHookError for a hook that the model lacks.
    """
    device = _used_device(config, ranks)
    names = tuple(hooks if hooks is not None else config.all_hooks)
    if config.activations is not None:
        if config.randomise_model is not None:
            raise ConfigError("randomise_model: cannot apply to activations read from disk; leave one of the two out")
        store = StoredActivations(config.activations, hooks=names)
        check_same_recipe(config, store.manifest)
        return Origin(_delivered(store, config, CPU, device), store.manifest.model, store.manifest.data)
    model = load_models(config)
    for hook in names:
        model.hook(hook)
    stream = open_stream(config.dataset, model, config.data)
    source = open_harvest(model, stream, names, ranks, config.harvest)
    source = _delivered(source, config, model.device, device, n_ranks=ranks.n)
    return Origin(source, model.facts, stream.facts, stream)


def _used_device(config: TrainConfig, ranks: Ranks) -> torch.device:
    """The SAE's device, which becomes the current one.

    Raises: ConfigError if a device is not there, or ranks shall have two each.
    """
    device = resolve_device(config.device)
    if config.model_device is not None:
        other = resolve_device(config.model_device, setting="model_device")
        if ranks.n > 1 and (other.index is not None or not same_device(other, device)):
            raise ConfigError(
                f"model_device: got {config.model_device} on {ranks.n} ranks, each of which has one device for its "
                "model and its part of the SAE; leave it out"
            )
    if device.index is not None:
        # Kernels are launched on the current GPU.
        torch.cuda.set_device(device)
    return device


def _delivered(
    source: ActivationSource, config: TrainConfig, made_on: torch.device, device: torch.device, *, n_ranks: int = 1
) -> ActivationSource:
    """The source's activations on the SAE's device, made ahead if the config says so."""
    n_ahead = config.harvest.activations_ahead(made_on, device, n_ranks=n_ranks)
    if n_ahead == 0 and same_device(made_on, device):
        return source
    return Delivered(source, device, n_ahead=n_ahead)


def load_models(config: TrainConfig, *, name: str | None = None, device: str | None = None) -> Model:
    """The model of a run, and the second one beside it where there is one; `name` in the place of the first's.

    Raises: ModelError for models that cannot be loaded, or do not read the same tokens.
    """
    where: dict[str, Any] = {"device": device or config.model_device or config.device, "dtype": config.dtype}
    model = load_model(name or config.model, randomise_seed=config.randomise_model, **where)
    if config.other_model is None:
        return model
    return model.beside(OTHER.removesuffix(":"), load_model(config.other_model, **where))


def check_same_recipe(config: TrainConfig, store: RunManifest) -> None:
    """Raises: ConfigError if activations on disk come from another model, text, split or mask than the config names."""
    data = config.data
    now = {
        "mask_policy": data.mask.facts,
        "prepend_bos": store.data["prepend_bos"] if data.prepend_bos is None else data.prepend_bos,
        "context_size": data.context_size,
        "rows": data.rows,
        "split": {"heldout_share": data.heldout_share},
    }
    named = {"model": (store.model["name"], config.model), "dataset": (store.data["dataset"], config.dataset)}
    for name, (was, is_now) in named.items():
        if was != is_now:
            raise ConfigError(f"{name}: got {is_now}; the activations were collected from {was}; give --{name} {was}")
    difference = data_difference(store.data, now) or _documents_difference(store.data, data)
    if difference is not None:
        name, was, is_now = difference
        raise ConfigError(f"data: got {name} {is_now}; the activations were collected with {was}; give the same")


def _documents_difference(then: Mapping[str, Any], data: DataConfig) -> tuple[str, Any, Any] | None:
    """What differs in which documents are read, as (name, then, now)."""
    by = (then.get("deduplicate") or {}).get("by", "no")
    if by != data.deduplicate:
        return "deduplicate", by, data.deduplicate
    # Stores that are older than the record of it are taken as they are.
    field_then = then.get("text_field", data.text_field)
    return None if field_then == data.text_field else ("text_field", field_then, data.text_field)
