"""Where a run's model works, and what it makes ahead of the SAE's steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from interp.activations.courier import same_device
from interp.models import resolve_device
from saes.origin import CPU
from saes.planning.counts import Counts
from saes.planning.machine import n_cores
from saes.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class Placed:
    """Whether the model is on the SAE's device, and how many batches of activations are made ahead for it.

    both_at_once: whether model and SAE are at work at the same time in the memory of one device.
    """

    model_here: bool
    n_ahead: int
    both_at_once: bool

    @classmethod
    def of(cls, config: TrainConfig, device: torch.device) -> "Placed":
        """Of a run in one process, with its SAE on this device."""
        if config.activations is not None:
            return cls(True, config.harvest.activations_ahead(CPU, device), False)
        made_on = device if config.model_device is None else resolve_device(config.model_device, setting="model_device")
        here, n_ahead = same_device(made_on, device), config.harvest.activations_ahead(made_on, device)
        return cls(here, n_ahead, here and n_ahead > 0)

    @property
    def n_beside(self) -> int:
        """Batches that are made while steps go on: none where those take all cores of the processor themselves."""
        busy = self.both_at_once and torch.get_num_threads() > n_cores() // 2
        return 0 if busy else self.n_ahead

    def ahead_bytes(self, counts: Counts) -> dict[str, int]:
        """Memory of the SAE's device for what is made ahead, part by part."""
        ahead = {"activations ahead": counts.ahead_bytes(self.n_ahead)} if self.n_ahead else {}
        return ahead | ({"harvest beside steps": counts.harvest_workspace_bytes} if self.both_at_once else {})


def beside(counts: Counts, seconds: Mapping[str, float], n_ahead: int) -> dict[str, float]:
    """The same with what of harvesting goes on beside the steps taken off: of each block, what is made ahead."""
    covered = min(1.0, n_ahead * counts.config.data.batch_tokens / counts.block_tokens)
    hidden = min(seconds["steps"], covered * seconds["harvest"])
    return {**seconds, "harvest": seconds["harvest"] - hidden}
