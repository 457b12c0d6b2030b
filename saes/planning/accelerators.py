"""What kinds of machine do in a second, for runs that are planned elsewhere than on them.

Each says where its figures come from. Those that were not measured are shares of data sheets, and may be wrong by
several times; whoever measures one puts the figure, the command and the date in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from interp.errors import ConfigError
from saes.planning.rates import STORED_CPU


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One rank's device and what connects it to others.

    `encoder_flops` is what the encoder's product achieves in each number format, `forward_flops` a language model's
    forward pass in bfloat16, `bytes` memory traffic, `link_bytes` what a rank receives in an exchange among the
    `ranks_per_node` of its machine and `node_link_bytes` what it receives from other machines, `seconds_per_exchange`
    what one takes however small it is, `written_bytes` checkpoints to disk.
    Units: operations and bytes per second; memory_bytes and host_bytes (of the machine, for all its ranks) in all.
    """

    name: str
    encoder_flops: Mapping[str, float]
    forward_flops: float
    bytes: float
    memory_bytes: float
    host_bytes: float
    link_bytes: float
    node_link_bytes: float
    ranks_per_node: int
    seconds_per_exchange: float
    seconds_per_step: float
    written_bytes: float
    source: str
    measured: bool

    def link(self, n_ranks: int) -> float:
        """Bytes that a rank receives in a second: the slowest link on the way sets the pace."""
        return self.link_bytes if n_ranks <= self.ranks_per_node else min(self.link_bytes, self.node_link_bytes)


H100 = Accelerator(
    name="h100",
    encoder_flops={"float32": 4.0e13, "bfloat16": 5.5e14},
    forward_flops=4.0e14,
    bytes=2.3e12,
    memory_bytes=80e9,
    host_bytes=2e12,
    link_bytes=3.0e11,
    node_link_bytes=4.0e10,
    ranks_per_node=8,
    seconds_per_exchange=3e-5,
    seconds_per_step=2e-3,
    written_bytes=5e8,
    source="H100 SXM5 data sheet (67 TFLOP/s float32, 989 bfloat16, 3.35 TB/s, NVLink 450 GB/s each way, 400 Gb/s "
    "network per GPU) at 60, 55, 40, 70, 65 and 80 %; not measured",
    measured=False,
)
H200 = Accelerator(
    name="h200",
    encoder_flops=H100.encoder_flops,
    forward_flops=H100.forward_flops,
    bytes=3.3e12,
    memory_bytes=141e9,
    host_bytes=H100.host_bytes,
    link_bytes=H100.link_bytes,
    node_link_bytes=H100.node_link_bytes,
    ranks_per_node=8,
    seconds_per_exchange=H100.seconds_per_exchange,
    seconds_per_step=H100.seconds_per_step,
    written_bytes=H100.written_bytes,
    source="as h100; 4.8 TB/s of memory traffic at 70 %, 141 GB; not measured",
    measured=False,
)
CPU = Accelerator(
    name="cpu",
    encoder_flops={"float32": STORED_CPU.matmul_flops, "bfloat16": STORED_CPU.matmul_flops},
    forward_flops=STORED_CPU.forward_flops,
    bytes=STORED_CPU.bytes,
    memory_bytes=16e9,
    host_bytes=16e9,
    link_bytes=1.0e9,
    node_link_bytes=1.0e9,
    ranks_per_node=2,
    seconds_per_exchange=1.7e-4,
    seconds_per_step=STORED_CPU.seconds_per_step,
    written_bytes=STORED_CPU.written_bytes,
    source="two ranks of one thread each on a shared 2-core virtual machine; exchange: gloo, 64 MB added up in 75 ms "
    "and one number in 0.17 ms (medians of 5 and 50, torch 2.13, 2026-11-26)",
    measured=True,
)
ACCELERATORS = {one.name: one for one in (H100, H200, CPU)}


def accelerator(name: str) -> Accelerator:
    """Raises: ConfigError naming those that are known."""
    if name not in ACCELERATORS:
        raise ConfigError(f"--on: got {name!r}; expected one of {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]
