"""What a training run on several ranks will take, counted: nothing is loaded, run or measured for it.

Axes: b tokens of a step, d width of the input, o width of the output, f features, k active features, g prefixes.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.errors import ArtifactError
from interp.models import resolve_dtype
from interp.storage import read_json, write_json
from saes.ops.encode import CHUNK_ENTRIES_CPU, CHUNK_ENTRIES_GPU
from saes.planning.accelerators import Accelerator
from saes.planning.counts import ADAM_BYTES, UPKEEP_BYTES, Counts
from saes.planning.exchange import aux_exchange, checkpoint_exchange, n_exchanges, step_exchange
from saes.planning.model_sizes import ModelSizes
from saes.planning.run_plan import counts_of, open_source
from saes.train_config import TrainConfig

SCHEMA_VERSION = 1
KIND = "spread_plan"


@dataclass(frozen=True, slots=True)
class SpreadPlan:
    """What a run will take on `n_ranks`. `*_by` are the parts of a total.

    Time adds up what does not overlap in this code: harvesting, steps, exchanges, checkpoints. Features that die add to
    it: `aux_exchange_bytes` is what a step receives more while more are dead than revive a token. host_bytes is what
    rank 0 holds of the whole dictionary while it writes a checkpoint; the others hold none of it.
    Units: seconds of wall time; bytes, of memory per rank; exchanged bytes are those that each rank receives in a step.
    """

    model: str
    n_ranks: int
    n_tokens: int
    n_steps: int
    n_parameters: int
    flops_by: Mapping[str, float]
    seconds: float
    seconds_by: Mapping[str, float]
    memory_bytes: int
    memory_by: Mapping[str, int]
    memory_available_bytes: float
    host_bytes: int
    host_available_bytes: float
    disk_bytes: int
    disk_peak_bytes: int
    exchange_bytes: float
    exchange_by: Mapping[str, float]
    aux_exchange_bytes: float
    accelerator: str
    source: str
    not_measured: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def fits_memory(self) -> bool:
        return self.memory_bytes <= self.memory_available_bytes and self.host_bytes <= self.host_available_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": KIND, **asdict(self), "fits_memory": self.fits_memory}

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "SpreadPlan":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        held = read_json(path)
        if not isinstance(held, dict) or (held.pop("kind", None), held.get("schema_version")) != (KIND, SCHEMA_VERSION):
            raise ArtifactError(f"{path}: is no plan of a run on ranks, version {SCHEMA_VERSION}; plan again")
        held.pop("fits_memory", None)
        try:
            return SpreadPlan(**{**held, "not_measured": tuple(held["not_measured"])})
        except (KeyError, TypeError):
            raise ArtifactError(f"{path}: is damaged; plan again") from None

    def _repr_html_(self) -> str:
        """Time, memory, disk and exchange as a table."""
        rows = {
            "time": f"{self.seconds / 3600:,.2f} h",
            "memory per rank": f"{self.memory_bytes / 1e9:,.2f} GB of {self.memory_available_bytes / 1e9:,.0f} GB",
            "disk": f"{self.disk_bytes / 1e9:,.2f} GB",
            "received per rank and step": f"{self.exchange_bytes / 1e6:,.1f} MB",
        }
        lines = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows.items())
        caption = html.escape(f"{self.model} on {self.n_ranks} × {self.accelerator} ({self.source})")
        return f"<table><caption>{caption}</caption><tbody>{lines}</tbody></table>"


def plan_spread(counts: Counts, n_ranks: int, on: Accelerator) -> SpreadPlan:
    """What the run that is counted will take on so many ranks of a kind."""
    config = counts.config
    seconds, memory = _seconds(counts, n_ranks, on), _memory(counts, n_ranks, on)
    exchange = step_exchange(counts, n_ranks)
    # What is gathered, and serialised twice before it is written.
    host = 3 * counts.checkpoint_bytes if n_ranks > 1 else 2 * counts.checkpoint_bytes
    return SpreadPlan(
        model=config.model,
        n_ranks=n_ranks,
        n_tokens=config.n_steps * config.batch_size,
        n_steps=config.n_steps,
        n_parameters=counts.n_parameters,
        flops_by={"harvest": counts.harvest_flops, "training": counts.training_flops},
        seconds=sum(seconds.values()),
        seconds_by=seconds,
        memory_bytes=sum(memory.values()),
        memory_by=memory,
        memory_available_bytes=on.memory_bytes,
        host_bytes=host,
        host_available_bytes=on.host_bytes,
        disk_bytes=counts.kept_bytes,
        disk_peak_bytes=counts.peak_disk_bytes,
        exchange_bytes=sum(exchange.values()),
        exchange_by=exchange,
        aux_exchange_bytes=aux_exchange(counts, n_ranks),
        accelerator=on.name,
        source=on.source,
        not_measured=on.not_measured,
    )


def counts_from_sizes(config: TrainConfig, sizes: ModelSizes) -> Counts:
    """The run in numbers, for a model that is not there.

    Raises: UnknownHookError for a hook whose width the sizes do not tell.
    """
    widths = {hook: sizes.width(hook) for hook in config.all_hooks}
    bytes_each = resolve_dtype(config.dtype).itemsize
    flops = max(sizes.forward_flops(hook, config.data.context_size) for hook in config.all_hooks)
    out = None if config.hook_out is None else widths[config.hook_out]
    d_in = sum(widths[hook] for hook in config.hooks_in)
    return Counts(config, d_in, flops, sizes.weight_bytes(bytes_each), bytes_each, out)


def counts_for_ranks(config: TrainConfig, typed: Mapping[str, ModelSizes]) -> Counts:
    """The run in numbers, from typed sizes where the model's are typed; others are loaded.

    Raises: any InterpError that training would raise of its inputs.
    """
    if config.activations is None and config.model in typed:
        return counts_from_sizes(config, typed[config.model])
    return counts_of(config, open_source(config))


def step_seconds(counts: Counts, n: int, on: Accelerator) -> float:
    """One step of a rank, what it exchanges apart."""
    b, d, sae = counts.config.batch_size, (counts.d_in + counts.d_out) / 2, counts.config.sae
    product = 2 * counts.d_in * sae.d_sae * b / n / on.encoder_flops[sae.encoder_dtype]
    # Kernels that do it all in one pass over the rows are for one rank, and so are those that sum up prefixes.
    per_parameter = on.parameter_bytes if n == 1 else max(on.parameter_bytes, ADAM_BYTES + UPKEEP_BYTES)
    per_prefix = 16 if n == 1 else 40
    pre = on.entry_passes * b * sae.d_sae * _itemsize(counts)
    moved = (pre + 16 * counts.k * b * d + per_parameter * counts.n_parameters) / n
    return product + (moved + per_prefix * b * d * counts.n_prefixes) / on.bytes + on.seconds_per_step


def _itemsize(counts: Counts) -> int:
    return 2 if counts.config.sae.encoder_dtype == "bfloat16" else 4


def _seconds(counts: Counts, n: int, on: Accelerator) -> dict[str, float]:
    received = sum(step_exchange(counts, n).values()) / on.link(n)
    waits = n_exchanges(counts) * on.seconds_per_exchange if n > 1 else 0.0
    checkpoint = checkpoint_exchange(counts, n) / on.link(n) + counts.checkpoint_bytes / on.written_bytes
    written = counts.n_checkpoints + counts.sae_bytes / counts.checkpoint_bytes
    return {
        "harvest": counts.harvest_flops / n / on.forward_flops,
        "steps": step_seconds(counts, n, on) * counts.config.n_steps,
        "exchange": (received + waits) * counts.config.n_steps,
        "checkpoints": checkpoint * written,
    }


def _memory(counts: Counts, n: int, on: Accelerator) -> dict[str, int]:
    """The most that a rank's device holds at once; harvesting and steps take turns."""
    return {
        "model": counts.model_bytes,
        "shuffle buffer": counts.block_bytes,
        "SAE, gradients, optimiser": counts.trained_bytes // n,
        "work": max(counts.harvest_workspace_bytes, step_workspace(counts, n, on)),
    }


def step_workspace(counts: Counts, n: int, on: Accelerator) -> int:
    """Bytes that a step of a rank holds beside what is trained."""
    config, o, g = counts.config, counts.d_out, counts.n_prefixes
    b, own = config.batch_size, -(-config.sae.d_sae // n)
    chunk = min(b * own, CHUNK_ENTRIES_CPU if on.name == "cpu" else CHUNK_ENTRIES_GPU)
    # Codes in both orders; everyone's candidates, sorted.
    codes = int(200 * counts.k * b / n) + (12 * n * int(counts.k) * b if n > 1 else 0)
    copied = 2 * own * counts.d_in if config.sae.encoder_dtype == "bfloat16" else 0
    # Sums of groups, which turn into their pulls; of several ranks also the gradient.
    sums = (1 if n == 1 else 2) * g * o
    # Pre-activations of a chunk and what of them is looked at: a processor gives them back before it reconstructs.
    selection, rest = 8 * chunk, 4 * b * (sums + 7 * max(counts.d_in, o))
    return codes + copied + (max(selection, rest) if on.name == "cpu" else selection + rest)


def growth(counts: Counts, ranks: Sequence[int], on: Accelerator) -> tuple[SpreadPlan, ...]:
    """The same run on different numbers of ranks: what grows with what."""
    return tuple(plan_spread(counts, n, on) for n in ranks)
