"""Endless batches of synthetic activations, for the training loop."""

from collections.abc import Mapping

import torch

from interp.code import ActivationBatch
from interp.errors import ConfigError
from saes.synthetic import HOOK
from saes.synthetic_world import Tokens, World


class SyntheticBatches:
    """Endless batches from known features. Seeded by number, so that any batch can be drawn again from it."""

    def __init__(self, world: World, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size: got {batch_size}; expected at least 1 token per batch")
        self._world, self._batch_size, self._seed, self._step = world, batch_size, seed, 0
        self._zeros = torch.zeros(batch_size, dtype=torch.int64)

    def __next__(self) -> ActivationBatch:
        tokens = self.draw(self._step)
        self._step += 1
        return ActivationBatch({HOOK: tokens.x}, self._zeros, self._zeros, self._zeros)

    def draw(self, step: int) -> Tokens:
        """The batch of a number, with the true features that made it."""
        return self._world.draw(self._batch_size, torch.Generator().manual_seed(self._seed * 1_000_003 + step))

    def cursor(self) -> dict[str, int]:
        return {"step": self._step}

    def seek(self, cursor: Mapping[str, int]) -> None:
        self._step = cursor["step"]
