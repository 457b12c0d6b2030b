"""What a sweep will take before it starts: memory, and time by count."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from interp.activations.store import StoredActivations
from interp.errors import ConfigError
from interp.models import resolve_device
from saes.planning.counts import Counts
from saes.planning.machine import available_bytes, peak_bytes
from saes.planning.placed import Placed, beside
from saes.planning.rates import STORED_CPU, STORED_CUDA
from saes.planning.run_plan import counted_seconds, forward_flops, open_source
from saes.sweep_config import SweepConfig
from saes.train_config import TrainConfig

ACT_BYTES = 4


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep will take. Times are counted operations at typical rates: they may be wrong by several times.

    Units: bytes; seconds, of one harvest and of all members' steps, and of every member alone.
    """

    memory_bytes: Mapping[str, int]
    memory_available_bytes: int
    harvest_seconds: float
    steps_seconds: float
    alone_seconds: float

    @property
    def fits_memory(self) -> bool:
        return sum(self.memory_bytes.values()) <= self.memory_available_bytes


def plan_sweep(config: SweepConfig) -> SweepPlan:
    """Count what the sweep will take on this machine.

    Raises: any InterpError that the sweep would raise of its inputs.
    """
    device = resolve_device(config.base.device)
    source, store = open_source(config.base), config.base.activations
    if isinstance(source, StoredActivations) and store is not None:
        widths, flops = dict(StoredActivations(store, hooks=config.hooks).widths), 0.0
    else:
        assert isinstance(source, tuple)
        model, _ = source
        widths = {hook: model.hook(hook).width for hook in config.hooks}
        flops = forward_flops(model, config.hooks, config.base.data.context_size)
    rates = STORED_CUDA if device.type == "cuda" else STORED_CPU
    counts, n_beside = _counts(config, widths, flops), Placed.of(config.base, device).n_beside
    counted = [counted_seconds(one, rates) for one in counts]
    steps = sum(one["steps"] for one in counted)
    together = beside(counts[0], {"harvest": counted[0]["harvest"], "steps": steps}, n_beside)
    apart = [beside(one, seconds, n_beside) for one, seconds in zip(counts, counted, strict=True)]
    return SweepPlan(
        memory_parts(config, widths, device),
        available_bytes(device),
        together["harvest"],
        steps,
        sum(one["harvest"] + one["steps"] for one in apart),
    )


def memory_parts(config: SweepConfig, widths: Mapping[str, int], device: torch.device) -> dict[str, int]:
    """What the sweep needs, part by part: weights, gradients and Adam's moments of all members at once, one buffer.

    Units: bytes; an estimate by count, of the device on CUDA.
    """
    counts = _counts(config, widths)
    harvested = Counts(config.base, sum(widths[hook] for hook in config.hooks), 0.0, 0, ACT_BYTES)
    placed = Placed.of(config.base, device)
    # Harvesting, a member's step and a member's checkpoint, which is serialised twice, take turns.
    turns = [] if placed.both_at_once else [harvested.harvest_workspace_bytes]
    turns += [max(one.step_workspace_bytes, 2 * one.checkpoint_bytes) for one in counts]
    return {
        "model and process": 0 if device.type == "cuda" else peak_bytes(device),
        "SAEs, gradients, optimisers": sum(one.trained_bytes for one in counts),
        "shuffle buffer": harvested.block_bytes,
        **placed.ahead_bytes(harvested),
        "work": max(turns),
    }


def check_memory(config: SweepConfig, widths: Mapping[str, int]) -> dict[str, int]:
    """The parts of what the sweep needs.

    Raises: ConfigError if that is more than there is.
    """
    device = resolve_device(config.base.device)
    parts = memory_parts(config, widths, device)
    needed, available = sum(parts.values()), available_bytes(device)
    if needed > available:
        largest = max(parts, key=lambda part: parts[part])
        raise ConfigError(
            f"{len(config.members())} members need {needed / 1e9:,.2f} GB together, most of it for {largest} "
            f"({parts[largest] / 1e9:,.2f} GB); this machine has {available / 1e9:,.2f} GB; give fewer members or "
            "features (sae.d_sae), or a smaller shuffle.block_tokens"
        )
    return parts


def _counts(config: SweepConfig, widths: Mapping[str, int], flops: float = 0.0) -> list[Counts]:
    return [_count(member.config, widths, flops) for member in config.members()]


def _count(config: TrainConfig, widths: Mapping[str, int], flops: float) -> Counts:
    d_in = sum(widths[hook] for hook in config.hooks_in)
    return Counts(config, d_in, flops, 0, ACT_BYTES, None if config.hook_out is None else widths[config.hook_out])
