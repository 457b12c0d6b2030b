"""What kinds of machine do in a second, for runs that are planned elsewhere than on them.

Each says where its figures come from. Those that were not measured are shares of data sheets, and may be wrong by
several times; whoever measures one puts the figure, the command and the date in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from interp.errors import ConfigError
from saes.planning.counts import ADAM_BYTES, UPKEEP_BYTES
from saes.planning.rates import STORED_CPU


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One rank's device and what connects it to others.

    `encoder_flops` is what the encoder's product achieves in each number format, `forward_flops` a language model's
    forward pass, `bytes` memory traffic. A step of one process reads pre-activations `entry_passes` times and moves
    `parameter_bytes` for each parameter in all that it does about them. `link_bytes` is what a rank receives in an
    exchange among the `ranks_per_node` of its machine, `node_link_bytes` what it receives from other machines,
    `seconds_per_exchange` what one takes however small it is, `written_bytes` checkpoints to disk. `not_measured` names
    what is a share of a data sheet.
    Units: operations and bytes per second; memory_bytes and host_bytes (of the machine, for all its ranks) in all.
    """

    name: str
    encoder_flops: Mapping[str, float]
    forward_flops: float
    bytes: float
    entry_passes: float
    parameter_bytes: float
    memory_bytes: float
    host_bytes: float
    link_bytes: float
    node_link_bytes: float
    ranks_per_node: int
    seconds_per_exchange: float
    seconds_per_step: float
    written_bytes: float
    source: str
    not_measured: tuple[str, ...]

    def link(self, n_ranks: int) -> float:
        """Bytes that a rank receives in a second: the slowest link on the way sets the pace."""
        return self.link_bytes if n_ranks <= self.ranks_per_node else min(self.link_bytes, self.node_link_bytes)


H100 = Accelerator(
    name="h100",
    encoder_flops={"float32": 4.0e13, "bfloat16": 7.77e14},
    forward_flops=4.0e14,
    bytes=3.0e12,
    entry_passes=1.0,
    parameter_bytes=41.0,
    memory_bytes=80e9,
    host_bytes=2e12,
    link_bytes=3.0e11,
    node_link_bytes=4.0e10,
    ranks_per_node=8,
    seconds_per_exchange=3e-5,
    seconds_per_step=1.8e-3,
    written_bytes=5e8,
    source="steps as benchmarks/sae_step_cuda.py found them on one H100 80GB HBM3 (torch 2.11; an encoder's 35.2 TFLOP "
    "in 45.3 ms, copies at 3.0 TB/s); the rest from data sheets: forward passes at 40 % of 989 TFLOP/s, a float32 "
    "encoder at 60 % of 67, NVLink at 65 % of 450 GB/s each way, 400 Gb/s of network per GPU at 80 %",
    not_measured=("forward passes", "float32 encoder", "exchange", "disk", "more than one rank"),
)
H200 = replace(
    H100,
    name="h200",
    bytes=4.3e12,
    memory_bytes=141e9,
    source="as h100, memory traffic as much faster as the data sheets say (4.8 to 3.35 TB/s)",
    not_measured=("anything",),
)
CPU = Accelerator(
    name="cpu",
    encoder_flops={"float32": STORED_CPU.matmul_flops, "bfloat16": STORED_CPU.matmul_flops},
    forward_flops=STORED_CPU.forward_flops,
    bytes=STORED_CPU.bytes,
    entry_passes=3.0,
    parameter_bytes=float(ADAM_BYTES + UPKEEP_BYTES),
    memory_bytes=16e9,
    host_bytes=16e9,
    link_bytes=1.0e9,
    node_link_bytes=1.0e9,
    ranks_per_node=2,
    seconds_per_exchange=1.7e-4,
    seconds_per_step=STORED_CPU.seconds_per_step,
    written_bytes=STORED_CPU.written_bytes,
    source="the rates of `interp plan --no-calibrate`; exchange: gloo between two processes of a shared 2-core virtual "
    "machine, 64 MB added up in 75 ms and one number in 0.17 ms (medians of 5 and 50, torch 2.13, 2026-11-26)",
    not_measured=("more than one machine",),
)
ACCELERATORS = {one.name: one for one in (H100, H200, CPU)}


def accelerator(name: str) -> Accelerator:
    """Raises: ConfigError naming those that are known."""
    if name not in ACCELERATORS:
        raise ConfigError(f"--on: got {name!r}; expected one of {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]
