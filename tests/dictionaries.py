"""A dictionary of random features in a few lines: what circuits are tested with, apart from any trained SAE."""

import torch
from torch import Tensor

from interp.code import Code


class RandomDictionary:
    """ReLU features (or linear ones, which fire on every token) that read one hook and write another."""

    def __init__(
        self, reads: str, writes: str, d: int, f: int, *, seed: int = 0, linear: bool = False, dtype=torch.float64
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.hooks_in, self.hooks_out, self.d_sae = (reads,), (writes,), f
        self.encoder = torch.randn(f, d, generator=generator, dtype=dtype) / d**0.5
        self.decoder = torch.randn(f, d, generator=generator, dtype=dtype) / f**0.5
        self.bias = torch.randn(d, generator=generator, dtype=dtype) * 0.1
        self.linear = linear

    def encode(self, x: Tensor) -> Code:
        pre = x @ self.encoder.t()
        if not self.linear:
            return Code.from_dense(pre.relu())
        rows, features = x.shape[0], torch.arange(self.d_sae)
        offsets = torch.arange(rows + 1) * self.d_sae
        return Code(pre.flatten(), features.repeat(rows), offsets, self.d_sae)

    def decode(self, code: Code, *, prefix: int | None = None) -> Tensor:
        dense = code.dense()
        return (dense if prefix is None else dense[:, :prefix]) @ self.decoder[:prefix] + self.bias

    def directions(self, features: Tensor) -> Tensor:
        return self.decoder[features]
