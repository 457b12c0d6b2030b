"""BatchTopK: k features per token on average, as many for each as it deserves."""

from abc import ABC
from typing import final

import torch
from torch import Tensor

from interp.code import Code
from saes.base import SAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above, select_per_batch


class BatchSelectedSAE(SAE, ABC):
    """What BatchTopK and its nested form share: selection over the batch, a threshold at inference."""

    def select(self, pre: Preactivations) -> Selection:
        return select_per_batch(pre, self.config.k)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above(pre, self.threshold)

    def update_threshold(self, code: Code) -> None:
        """Running mean of the batch's smallest positive activation."""
        self.threshold.copy_(running_threshold(self.threshold, code, self.n_updates, self.config.threshold_rate))


@final
class BatchTopKSAE(BatchSelectedSAE):
    """Keeps the k·b largest positive activations of a batch; at inference those strictly above a threshold.

    Source: Bussmann et al. 2024 (BatchTopK).
    """


def running_threshold(threshold: Tensor, code: Code, n_updates: Tensor, rate: float) -> Tensor:
    """The next running mean of the smallest positive activation; a plain mean until 1 / rate steps are done.

    The plain mean at first lets short runs forget that the threshold began at zero.
    """
    if code.values.numel() == 0:
        return threshold
    return torch.lerp(threshold, code.values.detach().amin(), torch.clamp(1 / n_updates, min=rate).to(threshold.dtype))
