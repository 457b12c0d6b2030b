"""The encoder's matrix product, a chunk of tokens at a time into one reused buffer.

Axes: b tokens, c tokens of a chunk, d width of the activations, f features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

# 512 rows of 8,192 features: few calls, and product and selection still meet in the cache. A GPU wants large products.
CHUNK_ENTRIES_CPU = 1 << 22
CHUNK_ENTRIES_GPU = 1 << 27


@dataclass(frozen=True)
class Preactivations:
    """centred W_encᵀ + b_enc, yielded as (stride offset, chunk) pairs: chunk r of n holds tokens r, r + n, r + 2n, …

    A chunk is thus a strided sample of the batch. Its memory is reused by the next one. Where it is
    `provisional`, a selection may leave it to whoever asks to look in the end whether it holds.

    Shapes: centred (b, d); weight (f, d); bias (f,).
    """

    centred: Float[Tensor, "b d"]
    weight: Float[Tensor, "f d"]
    bias: Float[Tensor, " f"]
    dtype: torch.dtype = torch.float32
    provisional: bool = False

    @property
    def n_chunks(self) -> int:
        entries = CHUNK_ENTRIES_CPU if self.centred.device.type == "cpu" else CHUNK_ENTRIES_GPU
        rows = max(1, entries // self.weight.shape[0])
        return max(1, -(-self.centred.shape[0] // rows))

    def __iter__(self) -> Iterator[tuple[int, Float[Tensor, "c f"]]]:
        for offset, chunk in self.raw_chunks():
            # Selection compares in the master format: a threshold must not be rounded to bfloat16.
            yield offset, chunk.to(self.centred.dtype)

    def raw_chunks(self) -> Iterator[tuple[int, Float[Tensor, "c f"]]]:
        """The same in the format of the product."""
        n = self.n_chunks
        x, weight, bias = self._operands
        buffer = torch.empty(-(-x.shape[0] // n), weight.shape[1], dtype=x.dtype, device=x.device)
        for offset in range(n):
            rows = x[offset::n]
            yield offset, torch.addmm(bias, rows, weight, out=buffer[: rows.shape[0]])

    def of_sample(self, n_tokens: int) -> Float[Tensor, "c f"]:
        """Those of about so many tokens, evenly spread over the batch."""
        x, weight, bias = self._operands
        return torch.addmm(bias, x[:: max(1, x.shape[0] // n_tokens)], weight).to(self.centred.dtype)

    @cached_property
    def _operands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Input, weight and bias in the format of the product, converted once."""
        if self.dtype == torch.bfloat16:
            return self.centred.bfloat16(), self.weight.bfloat16().t(), self.bias.bfloat16()
        return self.centred, self.weight.t(), self.bias
