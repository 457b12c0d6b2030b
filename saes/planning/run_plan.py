"""Time, memory, disk and operations of a training run before it starts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from interp.activations.store import StoredActivations
from interp.datasets import TokenStream, open_stream
from interp.hooks import capture
from interp.models import Model, resolve_device
from saes.origin import check_same_recipe, load_models
from saes.planning.calibration import LARGEST_CHECKPOINT, Calibration, calibrate
from saes.planning.counts import Counts
from saes.planning.machine import available_bytes, free_disk_bytes, peak_bytes
from saes.planning.placed import Placed, beside
from saes.planning.rates import STORED_CPU, STORED_CUDA, Rates
from saes.training import TrainConfig

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take. `*_by` are the parts of a total.

    measured: whether a few seconds of the real work were run for it. If not, seconds come from counted operations and
    the rates of another machine, and may be wrong by several times. Features that die while training add to the time:
    the dead-feature loss is not in it. Memory available is what the process of the plan could come to hold, with what
    it holds already, as the memory needed has that too.
    Units: seconds of wall time; bytes of memory (of the device on CUDA) and disk; flops are operations, a
    multiplication with its addition being two.
    """

    n_tokens: int
    n_steps: int
    n_harvested_tokens: int
    n_parameters: int
    flops: float
    flops_by: Mapping[str, float]
    seconds: float
    seconds_by: Mapping[str, float]
    memory_bytes: int
    memory_by: Mapping[str, int]
    memory_available_bytes: int
    disk_bytes: int
    disk_peak_bytes: int
    disk_available_bytes: int
    measured: bool
    device: str
    schema_version: int = SCHEMA_VERSION

    @property
    def fits_memory(self) -> bool:
        return self.memory_bytes <= self.memory_available_bytes

    @property
    def fits_disk(self) -> bool:
        return self.disk_peak_bytes <= self.disk_available_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "fits_memory": self.fits_memory, "fits_disk": self.fits_disk}


def plan(config: TrainConfig, *, calibrated: bool = True, startup_seconds: float | None = None) -> Plan:
    """What `train(config)` will take on this machine, as busy as it is now.

    `startup_seconds` is what it takes until a process can load a model. A run that does not fit into memory by the
    count is not tried: its time is then not measured.

    Raises: any InterpError that training would raise at its start.
    """
    device = resolve_device(config.device)
    base = 0 if device.type == "cuda" else peak_bytes(device)
    rates = STORED_CUDA if device.type == "cuda" else STORED_CPU
    begun = time.perf_counter()
    source = open_source(config)
    opening = time.perf_counter() - begun
    start = opening + rates.exit_seconds + (rates.startup_seconds if startup_seconds is None else startup_seconds)
    counts = counts_of(config, source)
    available = available_bytes(device)
    placed = Placed.of(config, device)
    memory = _counted_memory(counts, base, placed)
    measured = calibrate(counts, source, device) if calibrated and sum(memory.values()) <= available else None
    if measured is None:
        seconds = {"start and exit": start, **counted_seconds(counts, rates)}
    else:
        memory = _measured_memory(counts, measured) | placed.ahead_bytes(counts)
        seconds = {
            "start and exit": start + measured.compile + measured.initialise,
            **_measured_seconds(counts, measured),
        }
    seconds = beside(counts, seconds, placed.n_beside)
    flops = {"harvest": counts.harvest_flops, "training": counts.training_flops}
    return Plan(
        n_tokens=config.n_steps * config.batch_size,
        n_steps=config.n_steps,
        n_harvested_tokens=counts.harvested_tokens,
        n_parameters=counts.n_parameters,
        flops=sum(flops.values()),
        flops_by=flops,
        seconds=sum(seconds.values()),
        seconds_by=seconds,
        memory_bytes=sum(memory.values()),
        memory_by=memory,
        memory_available_bytes=available,
        disk_bytes=counts.kept_bytes,
        disk_peak_bytes=counts.peak_disk_bytes,
        disk_available_bytes=free_disk_bytes(config.out),
        measured=measured is not None,
        device=str(device),
    )


Size = Sequence[int]
Source = tuple[Model, TokenStream] | StoredActivations


def open_source(config: TrainConfig) -> Source:
    """Where the run's activations come from.

    Raises: any InterpError that training would raise of its inputs.
    """
    if config.activations is not None:
        store = StoredActivations(config.activations, hooks=config.all_hooks)
        check_same_recipe(config, store.manifest)
        return store
    model = load_models(config)
    for hook in config.all_hooks:
        model.hook(hook)
    return model, open_stream(config.dataset, model, config.data)


def counts_of(config: TrainConfig, source: Source) -> Counts:
    """The run in numbers, for the width of its hook and the depth of it in the model."""
    if isinstance(source, StoredActivations):
        _, chunk = next(source.iter_from({}))
        widths = {hook: acts.shape[1] for hook, acts in chunk.acts.items()}
        return Counts(config, *_sizes(config, widths, 0.0, 0, chunk.acts[config.hook].element_size()))
    model, _ = source
    weights = sum(parameter.nbytes for parameter in model.hf.parameters())
    weights += sum(parameter.nbytes for other in model.others.values() for parameter in other.hf.parameters())
    flops = forward_flops(model, config.all_hooks, config.data.context_size)
    widths = {hook: model.hook(hook).width for hook in config.all_hooks}
    return Counts(config, *_sizes(config, widths, flops, weights, model.dtype.itemsize))


def _sizes(
    config: TrainConfig, widths: Mapping[str, int], flops: float, model_bytes: int, act_bytes: int
) -> tuple[int, float, int, int, int | None]:
    """What `Counts` asks for after the config: the input's width first, the output's last where it is another."""
    d_in = sum(widths[hook] for hook in config.hooks_in)
    return d_in, flops, model_bytes, act_bytes, None if config.hook_out is None else widths[config.hook_out]


def forward_flops(model: Model, hooks: Sequence[str], context_size: int) -> float:
    """Operations per token of a forward pass up to the deepest of `hooks`, counted as a row of `context_size` runs."""
    row = torch.zeros(1, context_size, dtype=torch.int64)
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
        capture(model, row, hooks, attention_mask=None if model.causal else torch.ones_like(row))
    return float(counter.get_total_flops()) / context_size


def _attention_flops(query: Size, key: Size, value: Size, *_: Any, **__: Any) -> int:
    n_rows, n_heads, n_queries, width = query
    return 2 * n_rows * n_heads * n_queries * key[2] * (width + value[3])


# The counter of torch 2.13 passes over the operator that attention takes on a CPU.
_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def _counted_memory(counts: Counts, base: int, placed: Placed) -> dict[str, int]:
    """The most that the SAE's device holds at once; harvesting, steps and checkpoints take turns."""
    # A checkpoint is serialised twice before it is written.
    turns = [counts.step_workspace_bytes, 2 * counts.checkpoint_bytes]
    if not placed.both_at_once:
        turns.append(counts.harvest_workspace_bytes)
    return {
        "process": base,
        # A model on another GPU has that one's memory; one on the CPU is in the process before it is counted.
        "model": counts.model_bytes if placed.model_here else 0,
        "shuffle buffer": counts.block_bytes,
        **placed.ahead_bytes(counts),
        "SAE, gradients, optimiser": counts.trained_bytes,
        "work": max(turns),
    }


def _measured_memory(counts: Counts, measured: Calibration) -> dict[str, int]:
    more = 0 if counts.checkpoint_bytes <= LARGEST_CHECKPOINT else 2 * counts.checkpoint_bytes
    return {
        "real steps": measured.peak_bytes,
        "rest of the shuffle buffer": max(0, counts.block_bytes - measured.pool_bytes),
        **({"checkpoint": more} if more else {}),
    }


def _measured_seconds(counts: Counts, measured: Calibration) -> dict[str, float]:
    return {
        "harvest": measured.per_harvested_token * counts.harvested_tokens,
        "steps": measured.per_step * counts.config.n_steps,
        "checkpoints": measured.per_checkpoint * _written(counts),
    }


def counted_seconds(counts: Counts, rates: Rates) -> dict[str, float]:
    """Seconds of a run's parts, its start apart, from counted operations."""
    step = counts.step_flops() / rates.matmul_flops + counts.step_bytes() / rates.bytes
    harvest = counts.forward_flops / rates.forward_flops + rates.seconds_per_token_read
    return {
        "harvest": harvest * counts.harvested_tokens,
        "steps": (step + rates.seconds_per_step) * counts.config.n_steps,
        "checkpoints": counts.checkpoint_bytes / rates.written_bytes * _written(counts),
    }


def _written(counts: Counts) -> float:
    """Checkpoints, and the SAE at the end as a part of one."""
    return counts.n_checkpoints + counts.sae_bytes / counts.checkpoint_bytes
