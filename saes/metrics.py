"""How well a dictionary reconstructs, as sums that merge: over batches, over documents, in any order.

Axes: b tokens, d width, f features, m documents, q quantities summed side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from interp.errors import DataError

Statistic = Callable[[Float[np.ndarray, "r q"]], Float[np.ndarray, " r"]]
"""From totals of r resamples to r values, for example a ratio of two columns."""
DENSE_ABOVE = 0.1
"""A feature that fires on more than this share of tokens is called dense."""
SINK_RATIO = 10.0
"""A token whose activation norm exceeds this many times the median norm is a high-norm sink."""


@dataclass(frozen=True, slots=True)
class VarianceSums:
    """Count, mean, scatter about that mean and squared error of the tokens seen so far.

    Shapes: mean (d,), float64. Units: scatter Σ‖x - mean‖² and error Σ‖x - x̂‖², squared activations.
    Source: Chan, Golub & LeVeque 1983 (merging means and sums of squares without cancellation).
    """

    n_tokens: int
    mean: Float[Tensor, " d"]
    scatter: float
    error: float

    @staticmethod
    def of(x: Float[Tensor, "b d"], x_hat: Float[Tensor, "b d"]) -> "VarianceSums":
        """The sums of one batch, taken in float64."""
        x64 = x.double()
        mean = x64.mean(0) if x.shape[0] else x64.new_zeros(x.shape[1])
        error = float((x64 - x_hat.double()).square().sum())
        return VarianceSums(x.shape[0], mean.cpu(), float((x64 - mean).square().sum()), error)

    def __add__(self, other: "VarianceSums") -> "VarianceSums":
        n = self.n_tokens + other.n_tokens
        if n == 0:
            return self
        apart = other.mean - self.mean
        between = float(apart.square().sum()) * self.n_tokens * other.n_tokens / n
        mean = self.mean + apart * (other.n_tokens / n)
        return VarianceSums(n, mean, self.scatter + other.scatter + between, self.error + other.error)

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained, Σ‖x - x̂‖² / Σ‖x - μ‖² with μ the mean of all tokens.

        Raises: DataError if the activations do not vary.
        """
        if self.scatter <= 0:
            raise DataError(
                f"got {self.n_tokens} tokens whose activations do not vary; explained variance needs variance; "
                "evaluate on more text or at another hook"
            )
        return self.error / self.scatter

    @property
    def explained_variance(self) -> float:
        """1 - FVU: 1 is perfect, 0 is as good as the mean, below 0 is worse."""
        return 1.0 - self.fvu


@dataclass(frozen=True, slots=True)
class PooledVariance:
    """The sums of several hooks. Each hook's activations count as if scaled to a total variance of one.

    So the figures of all are the means of each hook's own: on raw activations the hook of the largest norms, usually
    the deepest, would decide alone.
    """

    hooks: tuple[VarianceSums, ...]

    def __add__(self, other: "PooledVariance") -> "PooledVariance":
        return PooledVariance(tuple(a + b for a, b in zip(self.hooks, other.hooks, strict=True)))

    @property
    def n_tokens(self) -> int:
        return self.hooks[0].n_tokens

    @property
    def fvu(self) -> float:
        """Mean over hooks of the fraction of variance unexplained.

        Raises: DataError if a hook's activations do not vary.
        """
        return sum(sums.fvu for sums in self.hooks) / len(self.hooks)

    @property
    def explained_variance(self) -> float:
        """1 - FVU."""
        return 1.0 - self.fvu


def sink_mask(norms: Float[Tensor, " b"], *, median: float) -> Tensor:
    """Tokens whose norm is above SINK_RATIO × the median norm of the data set (not only those at position 0)."""
    return norms > SINK_RATIO * median


class FiringCounts:
    """How often each feature fired: L0, dead and dense features."""

    def __init__(self, d_sae: int) -> None:
        self.counts = torch.zeros(d_sae, dtype=torch.int64)
        self.n_tokens = 0

    def add(self, code: Code) -> None:
        """Count a batch."""
        fired = code.features[code.values > 0].long()
        self.counts += torch.bincount(fired, minlength=code.d_sae).cpu()
        self.n_tokens += code.n_rows

    def density(self) -> Float[Tensor, " f"]:
        """Share of tokens on which each feature fires."""
        return self.counts.double() / max(self.n_tokens, 1)

    def l0(self, prefix: int | None = None) -> float:
        """Mean number of firing features per token, of the first `prefix` features where given."""
        return float(self.density()[:prefix].sum())

    def dead_share(self) -> float:
        """Share of features that never fired."""
        return float((self.counts == 0).double().mean())

    def dense_share(self) -> float:
        """Share of features with density above DENSE_ABOVE."""
        return float((self.density() > DENSE_ABOVE).double().mean())


class DocumentSums:
    """Sums of q quantities per document: what a cluster bootstrap resamples."""

    def __init__(self, n_quantities: int) -> None:
        self._sums = torch.zeros(0, n_quantities, dtype=torch.float64)
        self._tokens = torch.zeros(0, dtype=torch.int64)

    def add(self, document: Int[Tensor, " b"], values: Float[Tensor, "b q"]) -> None:
        """Add token-level values to their documents (numbered from 0)."""
        if document.numel() == 0:
            return
        rows = document.long().cpu()
        missing = int(rows.max()) + 1 - self._sums.shape[0]
        if missing > 0:
            # Doubling keeps the cost of growing linear in the number of documents.
            missing = max(missing, self._sums.shape[0])
            self._sums = torch.cat([self._sums, self._sums.new_zeros(missing, self._sums.shape[1])])
            self._tokens = torch.cat([self._tokens, self._tokens.new_zeros(missing)])
        self._sums.index_add_(0, rows, values.double().cpu())
        self._tokens.index_add_(0, rows, torch.ones_like(rows))

    @property
    def n_documents(self) -> int:
        return int((self._tokens > 0).sum())

    def array(self) -> np.ndarray:
        """Sums of the documents that had tokens, (m, q)."""
        return self._sums[self._tokens > 0].numpy()


def document_bootstrap(
    sums: Float[np.ndarray, "m q"],
    statistic: Statistic,
    *,
    seed: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic of totals, resampling whole documents.

    Source: cluster bootstrap, Davison & Hinkley 1997, section 3.8 (tokens of a document are not independent).
    """
    n_documents = sums.shape[0]
    if n_documents < 2:
        raise DataError(f"got {n_documents} documents; an interval over documents needs at least 2; give more text")
    generator = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // n_documents)
    found = []
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        weights = generator.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=size)
        found.append(statistic(weights @ sums))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return float(low), float(high)


def share_unexplained(totals: Float[np.ndarray, "r q"]) -> Float[np.ndarray, " r"]:
    """FVU from columns (Σ‖x - x̂‖², Σ‖x - μ‖²) of each hook in turn, the mean over hooks.

    μ is held at the data set's mean while documents are resampled.
    """
    return np.asarray((totals[:, ::2] / totals[:, 1::2]).mean(1))


def loss_recovered(clean: float, ablated: float, spliced: float) -> float | None:
    """(H₀ - H_sae) / (H₀ - H): 1 if the SAE costs nothing, 0 if it is as bad as the ablation.

    None where the ablation changes nothing, so that there is nothing to recover.

    Units: all three in nats per token, over the same tokens.
    """
    return None if ablated == clean else (ablated - spliced) / (ablated - clean)
