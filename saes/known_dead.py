"""Which features are dead, as the host knows it: asking the device makes both wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor

from saes.host_count import HostCount, state_of


class KnownDead:
    """Features whose counter has reached a limit: asked at the end of a step, and only while there can be any.

    At a step's end, when its gradient norm has been read, the device has nothing else to do.
    Axes: f features, m dead ones.
    """

    def __init__(self) -> None:
        self._longest = HostCount()
        self._asked: tuple[tuple[int, int], int] | None = None
        self._dead: Int[Tensor, " m"] | None = None

    def of(self, counter: Int[Tensor, " f"], limit: int) -> Int[Tensor, " m"]:
        """Those at `limit` or beyond, ascending."""
        if self._dead is None or self._asked != (state_of(counter), limit):
            self._dead = self._ask(counter, limit)
            self._asked = state_of(counter), limit
        return self._dead

    # What a look in inference mode finds is kept for training, which could not save it for its backward pass.
    @torch.inference_mode(False)
    def _ask(self, counter: Int[Tensor, " f"], limit: int) -> Int[Tensor, " m"]:
        if self._longest.of(counter, lambda counter: int(counter.amax())) < limit:
            return counter[:0]
        dead = (counter >= limit).nonzero()[:, 0]
        if dead.shape[0] == 0:
            self._longest.forget()
        return dead

    @contextmanager
    def grows(self, counter: Int[Tensor, " f"], most: int) -> Iterator[None]:
        """Inside the block no feature's counter grows by more than `most`. Asks for the next step if one did before."""
        asked = self._asked
        with self._longest.grows(counter, most):
            before = state_of(counter)
            yield
        if asked is not None and asked[0] == before:
            self.of(counter, asked[1])
