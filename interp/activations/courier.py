"""Activations on their way to another device.

Between a CPU and a GPU they pass through pinned memory, in a stream of their own, so that neither the step that is
running nor the host waits for them; who receives them waits on the device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.code import ActivationBatch


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether two names mean one device: `cuda` is the current GPU."""
    if one.type != other.type or one.type != "cuda":
        return one.type == other.type
    return _index(one) == _index(other)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that may still be under way."""

    batch: ActivationBatch
    arrival: Any = None
    """The event after its copies; None: it is there."""
    cuda: Any = torch.cuda

    def received(self) -> ActivationBatch:
        """The batch, to be used in the current stream; nothing but that stream waits, unless the batch is on the CPU.

        Called by the one who uses it, in its own thread.
        """
        if self.arrival is None:
            return self.batch
        if self.batch.token_ids.device.type != "cuda":
            self.arrival.synchronize()
            return self.batch
        stream = self.cuda.current_stream(self.batch.token_ids.device)
        stream.wait_event(self.arrival)
        # Made in another stream: their memory is this one's until it is done with them.
        for x in _tensors(self.batch):
            x.record_stream(stream)
        return self.batch


class Courier:
    """Sends batches to one device; used by one thread."""

    def __init__(self, device: torch.device, *, cuda: Any = torch.cuda) -> None:
        """`cuda` stands for torch.cuda where there is none."""
        self._device, self._cuda = device, cuda
        self._stream: Any = None

    def send(self, batch: ActivationBatch) -> Sent:
        """The batch on the device, or on its way there."""
        source = batch.token_ids.device
        if same_device(source, self._device):
            return Sent(batch)
        if "cuda" not in (source.type, self._device.type):
            return Sent(_each(batch, lambda x: x.to(self._device)))
        if self._stream is None:
            # Of the GPU that receives; of the one that sends where the CPU receives.
            self._stream = self._cuda.Stream(self._device if self._device.type == "cuda" else source)
        if source.type == "cuda":
            self._stream.wait_stream(self._cuda.current_stream(source))
        with self._cuda.stream(self._stream):
            moved = _each(batch, self._copied)
            return Sent(moved, self._stream.record_event(), self._cuda)

    def _copied(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            # The allocator of pinned memory keeps it until the copy is done.
            return x.pin_memory().to(self._device, non_blocking=True)
        if self._device.type == "cpu":
            x.record_stream(self._stream)
            return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
        return x.to(self._device, non_blocking=True)


def _tensors(batch: ActivationBatch) -> tuple[Tensor, ...]:
    return (*batch.acts.values(), batch.token_ids, batch.document, batch.position)


def _each(batch: ActivationBatch, change: Callable[[Tensor], Tensor]) -> ActivationBatch:
    acts = {hook: change(x) for hook, x in batch.acts.items()}
    return ActivationBatch(acts, change(batch.token_ids), change(batch.document), change(batch.position))
