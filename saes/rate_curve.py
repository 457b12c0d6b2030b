"""One dictionary in the plane of rate and distortion: bits per token against explained variance.

Axes: n tokens, d width of the activations, f features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code, FeatureDictionary
from interp.errors import ConfigError
from saes.codebook_base import CodebookSAE
from saes.metrics import DocumentSums, VarianceSums, document_bootstrap, share_unexplained
from saes.rate import SupportBits, SupportCounts, ValueQuantiser, cell_entropy

VALUE_BITS = (0, 1, 2, 3, 4, 5, 6, 8)
CHOSEN_WITHIN = 0.01
"""The chosen quantiser is the coarsest whose explained variance is at most so much below that of exact values."""
ENCODED_TOKENS = 8192

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class RatePoint:
    """What a token takes with values quantised to `value_bits` each, and what then is explained.

    values: the entropy of the quantiser's cells, which is what an entropy coder takes; values_fixed: value_bits for
    each active feature. `bits` adds the support to the former. The interval is 95%, over documents.
    Units: bits per token.
    """

    value_bits: int
    bits: float
    values: float
    values_fixed: float
    explained_variance: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class RateCurve:
    """A dictionary's points, coarsest quantiser first; a single one where values are always the same.

    explained_variance is with exact values. n_parts: parts of the dictionary whose supports are coded apart.
    """

    n_tokens: int
    d_sae: int
    n_parts: int
    l0: float
    dead_share: float
    support: SupportBits
    explained_variance: float
    points: tuple[RatePoint, ...]

    @property
    def chosen(self) -> RatePoint:
        """The coarsest quantiser that loses little, or the finest if all lose more."""
        enough = (one for one in self.points if one.explained_variance >= self.explained_variance - CHOSEN_WITHIN)
        return next(enough, self.points[-1])


class QuantisedDictionary:
    """A dictionary whose values are quantised on their way: a FeatureDictionary like the one inside."""

    def __init__(self, inner: FeatureDictionary, quantiser: ValueQuantiser) -> None:
        self.inner, self.quantiser = inner, quantiser

    @property
    def hooks_in(self) -> tuple[str, ...]:
        return self.inner.hooks_in

    @property
    def hooks_out(self) -> tuple[str, ...]:
        return self.inner.hooks_out

    @property
    def d_sae(self) -> int:
        return self.inner.d_sae

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        code = self.inner.encode(x).active()
        return replace(code, values=self.quantiser.quantised(code))

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b d"]:
        return self.inner.decode(code, prefix=prefix)

    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        return self.inner.directions(features)


def n_parts_of(dictionary: FeatureDictionary) -> int:
    """Parts of a dictionary whose active features are known to be spread over all of them alike."""
    return dictionary.config.n_parts if isinstance(dictionary, CodebookSAE) else 1


@torch.no_grad()
def rate_curve(
    dictionary: FeatureDictionary,
    acts: Float[Tensor, "n d"],
    document: Int[Tensor, " n"],
    *,
    value_bits: Sequence[int] = VALUE_BITS,
) -> tuple[RateCurve, dict[int, ValueQuantiser]]:
    """The curve of a dictionary on these activations, and the quantisers that made it, by their bits.

    Frequencies and ranges are those of the same tokens: entropies come out too low by about (f - 1) / (2 n ln 2) bits.

    Raises: ConfigError for a dictionary that reads one hook and writes another, or several hooks.
    """
    if dictionary.hooks_in != dictionary.hooks_out or len(dictionary.hooks_in) > 1:
        hooks = ", ".join(dict.fromkeys((*dictionary.hooks_in, *dictionary.hooks_out)))
        raise ConfigError(f"got a dictionary of {hooks}; a rate is told of one that reads and writes one hook")
    parts = acts.split(ENCODED_TOKENS)
    codes = [dictionary.encode(part).active() for part in parts]
    counts = SupportCounts(dictionary.d_sae, n_parts_of(dictionary))
    for code in codes:
        counts.add(code)
    support, l0 = counts.bits(), float(counts.firings.sum()) / counts.n_tokens
    finest = ValueQuantiser.fit(codes, max(value_bits))
    # Where no feature's values differ there is nothing to quantise.
    wanted = sorted(set(value_bits)) if bool((finest.width > 0).any()) else [0]
    quantisers = {bits: ValueQuantiser.fit(codes, bits) for bits in wanted}
    points = []
    for bits, quantiser in quantisers.items():
        rounded = [replace(code, values=quantiser.quantised(code)) for code in codes]
        explained, interval = _explained(dictionary, parts, rounded, document)
        values = l0 * cell_entropy(quantiser, codes)
        points.append(RatePoint(bits, support.bits + values, values, l0 * bits, explained, interval))
    curve = RateCurve(
        n_tokens=counts.n_tokens,
        d_sae=dictionary.d_sae,
        n_parts=counts.n_parts,
        l0=l0,
        dead_share=float((counts.firings == 0).double().mean()),
        support=support,
        explained_variance=_explained(dictionary, parts, codes, document)[0],
        points=tuple(points),
    )
    return curve, quantisers


def _explained(
    dictionary: FeatureDictionary, parts: Sequence[Tensor], codes: Sequence[Code], document: Int[Tensor, " n"]
) -> tuple[float, Interval | None]:
    """Explained variance about the mean of all tokens, and its interval over documents."""
    decoded = [dictionary.decode(code) for code in codes]
    sums = VarianceSums.of(torch.cat(list(parts)), torch.cat(decoded))
    held = DocumentSums(2)
    for part, made, of in zip(parts, decoded, document.split(ENCODED_TOKENS), strict=True):
        error = (part.double() - made.double()).square().sum(1)
        spread = (part.double() - sums.mean.to(part.device)).square().sum(1)
        held.add(of, torch.stack([error, spread], dim=1))
    if held.n_documents < 2:
        return sums.explained_variance, None
    low, high = document_bootstrap(held.array(), share_unexplained, seed=0)
    return sums.explained_variance, (1 - high, 1 - low)


def variances_of(acts: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Variances along the principal axes, in float64."""
    centred = acts.double() - acts.double().mean(0)
    found: Tensor = torch.linalg.eigvalsh(centred.t() @ centred / acts.shape[0])
    return found.clamp(min=0)
