"""How often each feature fires, with an interval that knows that tokens of a document are not independent.

Axes: b tokens, f features, p documents still open.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code

OPEN_DOCUMENTS = 1024
"""Documents whose counts stand in memory, as f numbers each."""
KEPT_OPEN = 512
"""Newest documents that stay open when room is made; a stream gives all rows of a document within so many."""
Z_95 = 1.959964


class DensityByDocument:
    """Firing counts per feature with their spread over documents, in memory bounded by OPEN_DOCUMENTS.

    With c firings among n tokens of a document, it keeps Σc, Σc², Σcn per feature and Σn, Σn² over documents: all that
    the variance of the ratio Σc / Σn needs.
    """

    def __init__(self, d_sae: int) -> None:
        self._slot_of: dict[int, int] = {}
        self._free = list(range(OPEN_DOCUMENTS))
        self._counts = torch.zeros(OPEN_DOCUMENTS, d_sae)
        self._tokens = torch.zeros(OPEN_DOCUMENTS)
        self._firings, self._squares, self._crossed = torch.zeros(3, d_sae, dtype=torch.float64)
        self._n_tokens = self._n_tokens_squared = 0.0
        self._n_closed = 0

    @property
    def n_documents(self) -> int:
        return self._n_closed + len(self._slot_of)

    def add(self, code: Code, document: Int[Tensor, " b"]) -> None:
        """Count a batch."""
        names, index = document.unique(return_inverse=True)
        slots = self._slots(names.tolist())[index]
        fired = code.values > 0
        cells = slots[code.rows()[fired]] * code.d_sae + code.features[fired]
        self._counts.view(-1).index_add_(0, cells, torch.ones(cells.shape[0]))
        self._tokens.index_add_(0, slots, torch.ones(slots.shape[0]))

    def density(self) -> Float[Tensor, " f"]:
        """Share of tokens on which each feature fires."""
        self._close(len(self._slot_of))
        density: Tensor = self._firings / max(self._n_tokens, 1.0)
        return density

    def interval(self) -> Float[Tensor, "f 2"]:
        """95% interval of the density over documents; [0, 1] where there are fewer than two.

        Taken on the logarithm, so that it stays above zero for rare features. For a feature that never fired the
        upper end is the rule of three, 3 / tokens, which supposes one firing per document.

        Source: variance of a ratio under cluster sampling, Cochran 1977, section 9A.
        """
        density = self.density()
        if self._n_closed < 2:
            return torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(density.shape[0], 1)
        spread = self._squares - 2 * density * self._crossed + density.square() * self._n_tokens_squared
        variance = spread.clamp(min=0) * self._n_closed / (self._n_closed - 1) / self._n_tokens**2
        factor = torch.exp(Z_95 * variance.sqrt() / density.clamp(min=1e-300))
        interval = torch.stack([density / factor, (density * factor).clamp(max=1.0)], dim=1)
        never = torch.tensor([0.0, min(1.0, 3 / self._n_tokens)], dtype=torch.float64)
        return torch.where((density > 0)[:, None], interval, never)

    def _slots(self, names: list[int]) -> Int[Tensor, " _"]:
        new = [name for name in names if name not in self._slot_of]
        if len(new) > len(self._free):
            self._close(len(self._slot_of) - min(KEPT_OPEN, max(0, OPEN_DOCUMENTS - len(new))), spare=set(names))
        while len(new) > len(self._free):
            self._grow()
        for name in new:
            self._slot_of[name] = self._free.pop()
        return torch.tensor([self._slot_of[name] for name in names])

    def _grow(self) -> None:
        size = self._counts.shape[0]
        self._free += range(size, 2 * size)
        self._counts = torch.cat([self._counts, torch.zeros_like(self._counts)])
        self._tokens = torch.cat([self._tokens, torch.zeros_like(self._tokens)])

    def _close(self, n: int, spare: set[int] | None = None) -> None:
        """Move the n oldest open documents, but none of `spare`, into the sums."""
        oldest = [name for name in list(self._slot_of)[: max(n, 0)] if name not in (spare or ())]
        freed = [self._slot_of.pop(name) for name in oldest]
        slots = torch.tensor(freed, dtype=torch.int64)
        counts, tokens = self._counts[slots].double(), self._tokens[slots].double()
        self._firings += counts.sum(0)
        self._squares += counts.square().sum(0)
        self._crossed += (counts * tokens[:, None]).sum(0)
        self._n_tokens += float(tokens.sum())
        self._n_tokens_squared += float(tokens.square().sum())
        self._n_closed += len(freed)
        self._counts[slots] = 0
        self._tokens[slots] = 0
        self._free += freed
