"""Rates for plans that measure nothing: typical ones, not this machine's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine does in a second, and what things take apart from their size.

    `forward_flops` is what a transformer's forward pass achieves, `matmul_flops` the encoder's product, `bytes` memory
    traffic, `written_bytes` checkpoints (serialised, hashed, synchronised to disk).
    """

    matmul_flops: float
    forward_flops: float
    bytes: float
    written_bytes: float
    startup_seconds: float
    exit_seconds: float
    seconds_per_step: float
    seconds_per_token_read: float


STORED_CPU = Rates(
    matmul_flops=1.2e11,
    forward_flops=6e10,
    bytes=8e9,
    written_bytes=1.5e8,
    startup_seconds=5.0,
    exit_seconds=1.2,
    seconds_per_step=2e-3,
    seconds_per_token_read=4e-6,
)
"""A 2-core Intel Xeon virtual machine with AVX-512, torch 2.13, float32."""

STORED_CUDA = Rates(
    matmul_flops=4e13,
    forward_flops=3e13,
    bytes=8e11,
    written_bytes=5e8,
    startup_seconds=10.0,
    exit_seconds=1.2,
    seconds_per_step=2e-3,
    seconds_per_token_read=1e-6,
)
"""A data-centre GPU, from its data sheet at about a quarter of the peak; not measured."""
