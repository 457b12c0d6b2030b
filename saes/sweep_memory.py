"""Whether a sweep fits into memory, before it starts."""

from interp.errors import ConfigError
from interp.models import resolve_device
from saes.origin import Origin
from saes.planning.counts import Counts
from saes.planning.machine import available_bytes, peak_bytes
from saes.sweep_config import SweepConfig

ACT_BYTES = 4


def check_memory(config: SweepConfig, origin: Origin) -> dict[str, int]:
    """What the sweep needs, part by part: weights, gradients and Adam's moments of all members at once, one buffer.

    Units: bytes; an estimate by count, of the device on CUDA.
    Raises: ConfigError if that is more than there is.
    """
    device = resolve_device(config.base.device)
    widths = origin.source.widths
    counts = [
        Counts(one.config, sum(widths[hook] for hook in one.config.hooks_in), 0.0, 0, ACT_BYTES)
        for one in config.members()
    ]
    harvested = Counts(config.base, sum(widths[hook] for hook in config.hooks), 0.0, 0, ACT_BYTES)
    # Harvesting, a member's step and a member's checkpoint, which is serialised twice, take turns.
    turns = [harvested.harvest_workspace_bytes]
    turns += [max(one.step_workspace_bytes, 2 * one.checkpoint_bytes) for one in counts]
    parts = {
        "model and process": 0 if device.type == "cuda" else peak_bytes(device),
        "SAEs, gradients, optimisers": sum(one.trained_bytes for one in counts),
        "shuffle buffer": harvested.block_bytes,
        "work": max(turns),
    }
    needed, available = sum(parts.values()), available_bytes(device)
    if needed > available:
        largest = max(parts, key=lambda part: parts[part])
        raise ConfigError(
            f"{len(counts)} members need {needed / 1e9:,.2f} GB together, most of it for {largest} "
            f"({parts[largest] / 1e9:,.2f} GB); this machine has {available / 1e9:,.2f} GB; give fewer members or "
            "features (sae.d_sae), or a smaller shuffle.block_tokens"
        )
    return parts
