"""`interp collect`: one pass of the model, activations of several hooks on disk."""

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from interp.activations.harvest import HarvestConfig
from interp.activations.spread import open_harvest
from interp.activations.store import StoreConfig, read_along, write_store
from interp.config import Config, Seed
from interp.counts import TokenCount
from interp.datasets import DataConfig, open_stream
from interp.distributed import ALONE, Ranks, check_devices
from interp.models import load_model, resolve_device
from interp.runs import RunFolder, RunManifest


class CollectConfig(Config):
    """What to write to disk."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    hooks: tuple[str, ...] = Field(min_length=1)
    """Hook names, comma separated: all are collected in one pass. `interp models M --hooks` lists them."""
    tokens: TokenCount = 1_000_000
    """Tokens to collect; the data set is read again from its start if it is shorter."""
    out: Path = Path("runs/activations")
    """Folder to write."""
    seed: Seed = 0
    """Recorded; collecting itself is not random."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU)."""
    dtype: str = "float32"
    """Number format of the model and of what is written: float32, bfloat16 or float16."""
    data: DataConfig = DataConfig()
    harvest: HarvestConfig = HarvestConfig()
    store: StoreConfig = StoreConfig()

    @field_validator("hooks")
    @classmethod
    def _distinct(cls, hooks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(hooks)) < len(hooks):
            raise ValueError("name each hook once")
        return hooks


def collect(config: CollectConfig, *, resume: bool = False, ranks: Ranks = ALONE) -> RunFolder:
    """Harvest the training split at the given hooks into safetensors shards.

    Several ranks share the forward passes; rank 0 writes what one process would have written.

    Raises: ConfigError if the folder holds something else; StorageError if the disk is full (resume goes on).
    """
    run = RunFolder(config.out)
    goes_on = ranks.from_first(lambda: _goes_on(run, config, resume=resume))
    check_devices(ranks, resolve_device(config.device))
    model = load_model(config.model, device=config.device, dtype=config.dtype)
    stream = open_stream(config.dataset, model, config.data)
    ranks.check_same("model and data", [model.facts.get("content_hash"), stream.facts])
    source = open_harvest(model, stream, config.hooks, ranks, config.harvest)

    def begin() -> dict[str, Any]:
        if goes_on:
            run.check_same_config(config, may_differ=("tokens", "out", "harvest.prefetch"))
            run.check_same_inputs(model=model.facts, data=stream.facts)
        else:
            data = {**stream.facts, **stream.overlap(stream.with_split("heldout"))}
            manifest = RunManifest.begin("activations", seed=config.seed, model=model.facts, data=data)
            RunFolder.begin(config.out, config, manifest)
        return run.manifest().results

    results = ranks.from_first(begin)
    work = partial(write_store, run) if ranks.first else partial(read_along, results)
    work(source, n_tokens=config.tokens, shard_tokens=config.store.shard_tokens)
    return run


def _goes_on(run: RunFolder, config: CollectConfig, *, resume: bool) -> bool:
    """Raises: ConfigError if the folder holds something else."""
    goes_on = resume and run.started
    if not goes_on:
        run.check_free(config)
    return goes_on
