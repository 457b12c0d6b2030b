"""On which tokens each feature fires most.

Axes: b tokens, f features, k tokens per feature, n (feature, token) pairs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from saes.group_top import top_of_groups

MERGE_AT = 1 << 21
"""Firings gathered before they are merged into the counts."""
PAIRS_PER_FEATURE = 256
"""Mean number of pairs per feature above which rare pairs are dropped."""


class FiringTokens:
    """Counts of (feature, token) pairs. Exact until a dictionary fires on more than PAIRS_PER_FEATURE tokens a feature;
    then each feature keeps its most frequent half of that, and counts are lower bounds."""

    def __init__(self, d_sae: int, d_vocab: int) -> None:
        self._d_sae, self._d_vocab = d_sae, d_vocab
        self._pairs = torch.zeros(0, dtype=torch.int64)
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._waiting: list[Tensor] = []
        self._firings = torch.zeros(d_sae, dtype=torch.int64)

    def add(self, code: Code, token_ids: Int[Tensor, " b"]) -> None:
        """Count a batch."""
        fired = code.values > 0
        features = code.features[fired].long()
        self._firings += torch.bincount(features, minlength=self._d_sae)
        self._waiting.append(features * self._d_vocab + token_ids[code.rows()[fired]])
        if sum(pairs.shape[0] for pairs in self._waiting) > MERGE_AT:
            self._merge()

    def most_frequent(self, k: int) -> tuple[Int[Tensor, "f k"], Float[Tensor, "f k"]]:
        """The k tokens on which each feature fires most (-1 for none) and their share of its firings."""
        self._merge()
        features = self._pairs // self._d_vocab
        chosen, rank = top_of_groups(features, self._counts, k)
        tokens = torch.full((self._d_sae, k), -1, dtype=torch.int64)
        share = torch.zeros(self._d_sae, k)
        where = features[chosen], rank
        tokens[where] = self._pairs[chosen] % self._d_vocab
        share[where] = (self._counts[chosen] / self._firings[features[chosen]]).float()
        return tokens, share

    def _merge(self) -> None:
        waiting, seen = torch.cat([*self._waiting, self._pairs[:0]]).unique(return_counts=True)
        self._waiting.clear()
        pairs, place = torch.cat([self._pairs, waiting]).unique(return_inverse=True)
        self._counts = torch.zeros_like(pairs).index_add_(0, place, torch.cat([self._counts, seen]))
        self._pairs = pairs
        if pairs.shape[0] > PAIRS_PER_FEATURE * self._d_sae:
            kept, _ = top_of_groups(pairs // self._d_vocab, self._counts, PAIRS_PER_FEATURE // 2)
            kept = kept.sort().values
            self._pairs, self._counts = pairs[kept], self._counts[kept]
