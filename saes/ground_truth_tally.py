"""Counts over tokens from which scores against the truth are made.

Axes: b tokens, t true features, f latents, d width of the activations, m pairs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from saes.matching import Detection, Pairs, detection_from_counts
from saes.synthetic_world import Tokens


class Tally:
    """What fires, what it hits, and the moments of activations, strengths and errors; add batch after batch."""

    def __init__(self, *, pairs: Pairs, nearest: Int[Tensor, " f"]) -> None:
        self._pairs, self._nearest = pairs, nearest
        self.n_tokens = 0
        self.fired = self.true = torch.zeros((), dtype=torch.int64)
        self._hits_pair = self._hits_nearest = torch.zeros((), dtype=torch.int64)
        zero = torch.zeros((), dtype=torch.float64)
        self._error, self._square, self._sum = zero, zero, zero
        self._product, self._acts, self._truth = zero, (zero, zero), (zero, zero)

    def add(self, tokens: Tokens, code: Code, reconstruction: Float[Tensor, "b d"]) -> None:
        """Count a batch of tokens with the code and the reconstruction that a dictionary gave."""
        acts, truth = code.dense(), tokens.truth.dense()
        fires, true = acts > 0, truth > 0
        self.n_tokens += acts.shape[0]
        self.fired = self.fired + fires.sum(0)
        self.true = self.true + true.sum(0)
        self._hits_nearest = self._hits_nearest + (fires & true[:, self._nearest]).sum(0)
        self._hits_pair = self._hits_pair + (fires[:, self._pairs.latent] & true[:, self._pairs.feature]).sum(0)
        x = tokens.x.double()
        self._error = self._error + (x - reconstruction).square().sum()
        self._square, self._sum = self._square + x.square().sum(), self._sum + x.sum(0)
        self._product = self._product + (truth.t() @ acts).double()
        self._acts = _moments(self._acts, acts)
        self._truth = _moments(self._truth, truth)

    def by_nearest(self) -> Detection:
        """Each latent as a detector of the feature nearest to its direction."""
        return detection_from_counts(self._hits_nearest, self.fired, self.true[self._nearest])

    def by_pair(self) -> Detection:
        """Each paired latent as a detector of its feature."""
        return detection_from_counts(self._hits_pair, self.fired[self._pairs.latent], self.true[self._pairs.feature])

    def explained_variance(self) -> float:
        """1 - squared error / variance about the mean of all tokens."""
        variance = self._square - self._sum.square().sum() / self.n_tokens
        return 1 - float(self._error / variance)

    def correlation(self) -> Float[Tensor, "t f"]:
        """Pearson correlation over tokens of true strength and activation; 0 where one of them does not vary."""
        n = self.n_tokens
        (acts, acts2), (truth, truth2) = self._acts, self._truth
        covariance = self._product / n - torch.outer(truth / n, acts / n)
        spread = torch.outer(
            (truth2 / n - (truth / n).square()).clamp(min=0).sqrt(),
            (acts2 / n - (acts / n).square()).clamp(min=0).sqrt(),
        )
        return torch.where(spread > 0, covariance / spread, 0.0)


def _moments(so_far: tuple[Tensor, Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    return so_far[0] + values.double().sum(0), so_far[1] + values.double().square().sum(0)
