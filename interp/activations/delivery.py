"""Activations where they are used: made on one device, or read from disk, and brought to another while that works."""

from collections.abc import Iterator, Mapping
from contextlib import closing

import torch

from interp.activations.ahead import iter_ahead
from interp.activations.courier import Courier, Sent
from interp.activations.harvest import ActivationSource, Cursor, TellsSeconds
from interp.code import ActivationBatch


class Delivered:
    """Another source's activations, in its order and with its cursors, on `device`; up to `n_ahead` chunks early.

    A thread makes them: the model's forward passes, or reading from disk, go on beside the steps.
    """

    def __init__(self, source: ActivationSource, device: torch.device, *, n_ahead: int) -> None:
        self._source, self._device, self._n_ahead = source, device, n_ahead
        self._worked = 0.0

    @property
    def widths(self) -> Mapping[str, int]:
        return self._source.widths

    @property
    def seconds(self) -> Mapping[str, float]:
        if self._n_ahead:
            return {"ahead": self._worked}
        return self._source.seconds if isinstance(self._source, TellsSeconds) else {}

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, ActivationBatch]]:
        """Chunks, as the source gives them.

        Raises: whatever the source raises, where it would.
        """
        with closing(iter_ahead(lambda: self._sent(cursor), self._n_ahead, on_busy=self._count)) as chunks:
            for here, sent in chunks:
                yield here, sent.received()

    def _sent(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, Sent]]:
        courier = Courier(self._device)
        for here, batch in self._source.iter_from(cursor):
            yield here, courier.send(batch)

    def _count(self, seconds: float) -> None:
        self._worked += seconds
