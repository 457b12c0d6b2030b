"""`interp train`: from a config to a run folder with a trained SAE. Composes the parts; holds no mathematics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from interp.activations.blocks import ShuffleConfig, ShuffledActivations
from interp.activations.harvest import ActivationSource, Harvest
from interp.activations.store import StoredActivations
from interp.checkpoints import latest_checkpoint, list_checkpoints, load_checkpoint
from interp.config import Config, Seed
from interp.counts import TokenCount
from interp.datasets import DataConfig, TokenStream, open_stream
from interp.errors import ArtifactError, ConfigError
from interp.fitting import fit_in_folder
from interp.loop import Schedule, StepDone
from interp.models import load_model, resolve_device
from interp.recording import Recording, Row
from interp.runs import RunFolder, RunManifest
from saes.architectures import create_sae
from saes.base import SAE
from saes.config import SAEConfig
from saes.facts import data_difference
from saes.initialise import initialise
from saes.io import save_sae
from saes.optimiser import make_optimiser


class TrainConfig(Config):
    """A training run."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    hook: str
    """Where to look: a TransformerLens name such as blocks.2.hook_resid_post; `interp models M --hooks` lists them."""
    tokens: TokenCount = 2_000_000
    """Tokens to train on (300k, 4M, 1B are understood); shorter data is read again from its start."""
    out: Path = Path("runs/sae")
    """Run folder to write."""
    activations: Path | None = None
    """Folder written by `interp collect`: train from disk instead of running the model."""
    seed: Seed = 0
    """Seed of initial weights and shuffling."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "float32"
    """Number format of the model's forward pass: float32, bfloat16 or float16. The SAE is always float32."""
    batch_size: int = Field(2048, ge=1)
    """Tokens per step."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 switches clipping off."""
    rescale: bool = True
    """Scale activations so that the mean norm about their centre is sqrt(width); folded back when the SAE is saved."""
    freeze_decoder: bool = False
    """Keep the decoder as it was drawn at random: a null arm that a good SAE must beat."""
    randomise_model: Seed | None = None
    """Shuffle the model's weights with this seed before harvesting: a null arm that a good SAE must beat."""
    sae: SAEConfig = SAEConfig()
    data: DataConfig = DataConfig()
    shuffle: ShuffleConfig = ShuffleConfig()
    schedule: Schedule = Schedule()
    recording: Recording = Recording()

    @model_validator(mode="after")
    def _enough(self) -> "TrainConfig":
        if self.tokens < self.batch_size:
            raise ValueError(f"tokens: got {self.tokens}; expected at least one batch of {self.batch_size}")
        return self

    @property
    def n_steps(self) -> int:
        return self.tokens // self.batch_size


# May differ between a run and its continuation: none of them changes what is computed.
_FREE_ON_RESUME = ("out", "recording.log_every", "recording.checkpoint_every", "recording.keep_checkpoints")


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where activations come from, with what a manifest says of it."""

    source: ActivationSource
    model: dict[str, Any]
    data: dict[str, Any]
    stream: TokenStream | None = None

    def overlap(self) -> dict[str, Any]:
        """How much held-out text the training text repeats; a store's manifest says it already."""
        return {} if self.stream is None else self.stream.overlap(self.stream.with_split("heldout"))


def train(config: TrainConfig, *, resume: bool = False, resume_from: str | None = None) -> RunFolder:
    """Train an SAE and save it under out/sae; `resume` goes on from the last checkpoint, bit for bit.

    Raises: any InterpError; whatever was checkpointed before it stays usable.
    """
    run = RunFolder(config.out)
    goes_on = (resume or resume_from is not None) and run.started
    if goes_on:
        run.check_same_config(config, may_differ=_FREE_ON_RESUME)
        if run.manifest().status == "finished" and resume_from is None:
            return run
    elif resume_from is not None:
        raise ArtifactError(f"{config.out}: holds no run to resume from {resume_from}; check --out")
    else:
        run.check_free()
    origin = _origin(config)
    batches = ShuffledActivations(
        origin.source, batch_size=config.batch_size, block_tokens=config.shuffle.block_tokens, seed=config.seed
    )
    checkpoint = _checkpoint(run, resume_from) if goes_on else None
    state = load_checkpoint(checkpoint) if checkpoint is not None else None
    # Whatever can be wrong with the input shows here, before a folder is made.
    sae = _new_sae(config, origin, batches, fresh=state is None)
    if goes_on:
        run.check_same_inputs(model=origin.model, data=origin.data)
        run.write_manifest(run.manifest().model_copy(update={"status": "running"}))
    else:
        data = {**origin.data, **origin.overlap()}
        manifest = RunManifest.begin("sae", seed=config.seed, model=origin.model, data=data)
        run = RunFolder.begin(config.out, config, manifest)

    def more(_: StepDone) -> Row:
        dead = (sae.tokens_since_fired >= sae.dead_after_tokens).sum() if sae.dead_after_tokens else 0
        return {"dead": int(dead), "threshold": float(sae.threshold)}

    fit_in_folder(
        run,
        sae,
        make_optimiser(sae, config.schedule.lr),
        batches,
        label="train",
        schedule=config.schedule,
        n_steps=config.n_steps,
        clip_norm=config.clip_norm,
        recording=config.recording,
        state=state,
        more=more,
    )
    _finish(config, run, sae)
    return run


def _checkpoint(run: RunFolder, name: str | None) -> Path | None:
    if name is None:
        return latest_checkpoint(run.checkpoints)
    path = run.checkpoints / name
    if not path.is_dir():
        held = ", ".join(found.name for found in list_checkpoints(run.checkpoints)) or "none"
        raise ArtifactError(f"{path}: no such checkpoint; the run has {held}")
    return path


SAMPLE_TOKENS = 8192
"""Tokens from which b_dec and the input scale are taken; at most what the shuffle buffer holds."""


def _origin(config: TrainConfig) -> _Origin:
    if config.activations is not None:
        if config.randomise_model is not None:
            raise ConfigError("randomise_model: cannot apply to activations read from disk; leave one of the two out")
        store = StoredActivations(config.activations, hooks=(config.hook,))
        check_same_recipe(config, store.manifest)
        return _Origin(store, store.manifest.model, store.manifest.data)
    model = load_model(config.model, device=config.device, dtype=config.dtype, randomise_seed=config.randomise_model)
    model.hook(config.hook)
    stream = open_stream(config.dataset, model, config.data)
    return _Origin(Harvest(model, stream, (config.hook,)), model.facts, stream.facts, stream)


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
    field = then.get("text_field", data.text_field)
    return None if field == data.text_field else ("text_field", field, data.text_field)


def _new_sae(config: TrainConfig, origin: _Origin, batches: ShuffledActivations, *, fresh: bool) -> SAE:
    hooks = (config.hook,)
    device = resolve_device(config.device)
    d_in = origin.source.widths[config.hook]
    try:
        sae = create_sae(config.sae, d_in, hooks_in=hooks, token_budget=config.tokens, device=device)
    except RuntimeError as error:
        # How torch says that memory is short.
        if "alloc" not in str(error) and not isinstance(error, torch.OutOfMemoryError):
            raise
        size = f"{config.sae.d_sae:,} features of width {d_in:,}"
        raise ConfigError(f"sae.d_sae: {size} do not fit into memory; give fewer") from None
    if fresh:
        sample = batches.peek(SAMPLE_TOKENS).stacked(hooks)
        initialise(sae, sample, seed=config.seed, normalise=config.rescale)
    sae.W_dec.requires_grad_(not config.freeze_decoder)
    return sae


def _finish(config: TrainConfig, run: RunFolder, sae: SAE) -> None:
    manifest = run.manifest()
    facts = {
        "model": manifest.model,
        "data": manifest.data,
        "hook": config.hook,
        "seed": config.seed,
        "training_tokens": config.n_steps * config.batch_size,
        "frozen_decoder": config.freeze_decoder,
    }
    save_sae(run.sae, sae, facts)
    run.write_manifest(manifest.model_copy(update={"status": "finished"}))
