"""TopK: the k strongest features of each token."""

from typing import final

from saes.base import SAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_per_token


@final
class TopKSAE(SAE):
    """Keeps the k largest positive activations of each token, in training and at inference.

    Source: Gao et al. 2024 (arXiv 2406.04093), section 2.3.
    """

    def select(self, pre: Preactivations) -> Selection:
        return select_per_token(pre, self.config.k)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_per_token(pre, self.config.k)
