"""The standard SAE: ReLU features, squared error and an L1 penalty."""

from typing import final

from saes.base import Weights
from saes.entries import Activated, Entries
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above
from saes.penalised import PenalisedSAE


@final
class StandardSAE(PenalisedSAE):
    """Every positive activation counts; each is penalised in proportion to its decoder row's norm.

    Source: Bricken et al. 2023; the norm-weighted penalty is from Conerly et al. 2024 (circuits updates, April).
    """

    def select(self, pre: Preactivations) -> Selection:
        return select_above(pre, self.threshold)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above(pre, self.threshold)

    def activate(self, entries: Entries, weights: Weights) -> Activated:
        """As they are; in `weights` they already carry the decoder norms."""
        norms = self.wiring.norms(weights.decoder)
        counted = entries.pre if norms is None else entries.pre * entries.of_feature(norms)
        return Activated(entries.pre, penalised=entries.only(counted))
