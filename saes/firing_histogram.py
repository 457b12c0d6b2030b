"""How strongly each feature fires when it fires.

Axes: f features, h bins.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import Code

N_BINS = 60
DECADES = 4


class FiringHistogram:
    """Log-spaced histogram, maximum and mean of the positive activations of every feature.

    The bins cover four decades up to twice the largest activation of the first batch that has any; what lies beyond is
    counted in the outer bins.
    """

    def __init__(self, d_sae: int) -> None:
        self.counts = torch.zeros(d_sae, N_BINS, dtype=torch.int64)
        self.maximum = torch.zeros(d_sae)
        self._sum = torch.zeros(d_sae, dtype=torch.float64)
        self._top: float | None = None

    @property
    def edges(self) -> Float[Tensor, " h_plus_1"]:
        """Bin edges, shared by all features."""
        top = math.log10(self._top or 1.0)
        return torch.logspace(top - DECADES, top, N_BINS + 1, dtype=torch.float64)

    def add(self, code: Code) -> None:
        """Count a batch."""
        fired = code.values > 0
        values, features = code.values[fired], code.features[fired]
        if values.numel() == 0:
            return
        if self._top is None:
            self._top = 2 * float(values.max())
        place = (values.double().log10() - math.log10(self._top) + DECADES) * (N_BINS / DECADES)
        cells = features * N_BINS + place.long().clamp(0, N_BINS - 1)
        self.counts.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self.maximum.scatter_reduce_(0, features, values, "amax")
        self._sum.index_add_(0, features, values.double())

    def mean(self) -> Float[Tensor, " f"]:
        """Mean over firings; 0 for a feature that never fired."""
        return (self._sum / self.counts.sum(1).clamp(min=1)).float()
