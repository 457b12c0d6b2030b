"""How many bits a token's code takes: which features are active, and how strongly.

Axes: b tokens, f features, p features of a part, n active entries, c active features of a part (0 to p).
Units: bits per token throughout. Tables that both ends know (probabilities, ranges, the dictionary) are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from interp.errors import ConfigError

Coder = Literal["subsets", "independent", "draws"]


@dataclass(frozen=True, slots=True)
class SupportBits:
    """What telling the active features of a token takes, by three coders; each is a code that could be used.

    subsets: their number, then which of the C(p, c) sets of so many it is: nothing is known but how many are active.
    independent: each feature apart, on or off with its own frequency; the number is told along with it.
    draws: their number, then features one after the other, each with its frequency among all that fire, less the
    log2 c! orders in which they could have come; exact where one feature is active.
    count: what the number takes alone, which is nothing where it is always the same.
    Source: entropies of the empirical distribution (Cover & Thomas 2006, sections 2.1 and 7.4 for the sets).
    """

    count: float
    subsets: float
    independent: float
    draws: float

    @property
    def coder(self) -> Coder:
        """The cheapest."""
        told: dict[Coder, float] = {"subsets": self.subsets, "independent": self.independent, "draws": self.draws}
        return min(told, key=lambda name: told[name])

    @property
    def bits(self) -> float:
        """What the cheapest takes."""
        return min(self.subsets, self.independent, self.draws)

    def __add__(self, other: "SupportBits") -> "SupportBits":
        return SupportBits(
            self.count + other.count,
            self.subsets + other.subsets,
            self.independent + other.independent,
            self.draws + other.draws,
        )


class SupportCounts:
    """What the coders need to know, counted batch by batch. Parts are equal shares of the dictionary, coded apart."""

    def __init__(self, d_sae: int, n_parts: int = 1) -> None:
        if d_sae % n_parts:
            raise ConfigError(f"n_parts: got {n_parts} for {d_sae} features; give one that divides it")
        self.n_parts, self.size = n_parts, d_sae // n_parts
        self.firings = torch.zeros(d_sae, dtype=torch.int64)
        self.active = torch.zeros(n_parts, self.size + 1, dtype=torch.int64)
        self.n_tokens = 0

    def add(self, code: Code) -> None:
        """Count a batch."""
        code = code.active()
        features, rows = code.features.long().cpu(), code.rows().cpu()
        self.firings += torch.bincount(features, minlength=self.firings.shape[0])
        held = torch.bincount(rows * self.n_parts + features // self.size, minlength=code.n_rows * self.n_parts)
        for part, numbers in enumerate(held.view(code.n_rows, self.n_parts).unbind(1)):
            self.active[part] += torch.bincount(numbers, minlength=self.size + 1)
        self.n_tokens += code.n_rows

    def bits(self) -> SupportBits:
        """The bits of all parts together."""
        parts = zip(self.firings.view(self.n_parts, -1), self.active, strict=True)
        return sum((part_bits(*part) for part in parts), SupportBits(0.0, 0.0, 0.0, 0.0))


def part_bits(firings: Int[Tensor, " p"], active: Int[Tensor, " p_plus_1"]) -> SupportBits:
    """The bits of one part, from how often each of its features fired and how many tokens had c of them.

    Shapes: active[c] tokens with c active features.
    """
    n_tokens = active.sum().double()
    share, density = active.double() / n_tokens, firings.double() / n_tokens
    count = float(_surprise(share, share).sum())
    c, p = torch.arange(active.shape[0], dtype=torch.float64), float(firings.shape[0])
    orders = _log2_factorial(c)
    sets = _log2_factorial(torch.tensor(p, dtype=torch.float64)) - orders - _log2_factorial(p - c)
    drawn = _surprise(density, density / density.sum().clamp(min=1e-300)).sum() - (share * orders).sum()
    apart = (_surprise(density, density) + _surprise(1 - density, 1 - density)).sum()
    return SupportBits(count, count + float((share * sets).sum()), float(apart), count + float(drawn))


def _surprise(weight: Tensor, probability: Tensor) -> Tensor:
    """weight · log2 (1 / probability), zero where the weight is."""
    return torch.where(weight > 0, -weight * torch.log2(probability.clamp(min=1e-300)), 0.0)


def _log2_factorial(n: Tensor) -> Tensor:
    return torch.lgamma(n + 1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


@dataclass(frozen=True, slots=True)
class ValueQuantiser:
    """A uniform quantiser of each feature's values: 2^bits cells of equal width between its smallest and largest.

    A value becomes the middle of its cell; with no bits at all, the feature's mean.
    Shapes: low, width, mean (f,). Units: of activations.
    """

    bits: int
    low: Float[Tensor, " f"]
    width: Float[Tensor, " f"]
    mean: Float[Tensor, " f"]

    @staticmethod
    def fit(codes: Sequence[Code], bits: int) -> "ValueQuantiser":
        """The ranges of what is active in `codes`.

        Raises: ConfigError if bits is negative.
        """
        if bits < 0:
            raise ConfigError(f"bits: got {bits}; give 0 or more")
        active = [code.active() for code in codes]
        features, order = torch.cat([code.features for code in active]).long().sort()
        values = torch.cat([code.values for code in active]).double()[order]
        counts = torch.bincount(features, minlength=codes[0].d_sae)
        found = (torch.segment_reduce(values, kind, lengths=counts) for kind in ("min", "max", "mean"))
        low, high, mean = (torch.where(counts > 0, of_feature, 0.0) for of_feature in found)
        return ValueQuantiser(bits, low, (high - low) / 2**bits, mean)

    def cells(self, code: Code) -> Int[Tensor, " n"]:
        """Which cell each entry falls in; what is outside of a range falls in the nearest."""
        features = code.features.long()
        width = self.width[features]
        place = (code.values.double() - self.low[features]) / torch.where(width > 0, width, 1.0)
        return place.floor().long().clamp(0, 2**self.bits - 1)

    def quantised(self, code: Code) -> Float[Tensor, " n"]:
        """Each entry's value as it arrives."""
        features = code.features.long()
        if self.bits == 0:
            return self.mean[features].to(code.values.dtype)
        middle = self.low[features] + (self.cells(code).double() + 0.5) * self.width[features]
        return middle.to(code.values.dtype)


def cell_entropy(quantiser: ValueQuantiser, codes: Sequence[Code]) -> float:
    """Entropy of the cells of all active entries together, bits per entry: at most the quantiser's own."""
    cells = torch.cat([quantiser.cells(code.active()) for code in codes])
    # A feature with one value only has nothing to tell.
    share = torch.bincount(cells, minlength=1).double() / max(cells.shape[0], 1)
    return float(_surprise(share, share).sum())


def gaussian_explained(variances: Float[Tensor, " d"], bits: float) -> float:
    """Explained variance of the best code of so many bits for a Gaussian with these variances along its axes.

    What no code can exceed were the activations Gaussian; they are not, and a code that knows how may.
    Source: reverse water-filling, Cover & Thomas 2006, theorem 10.3.3.
    """
    held = variances.double().clamp(min=0)
    low, high = 0.0, float(held.max())
    for _ in range(200):
        level = (low + high) / 2
        spent = 0.5 * torch.log2((held / max(level, 1e-300)).clamp(min=1)).sum()
        low, high = (level, high) if float(spent) > bits else (low, level)
    return 1 - float(torch.minimum(held, torch.tensor(high, dtype=torch.float64)).sum() / held.sum())
