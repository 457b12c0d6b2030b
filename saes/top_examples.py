"""The tokens on which each feature fires hardest, with the text around them.

Axes: b rows, t position, f features, K examples, w window, n kept tokens, m candidates, s spans.
A span is one document's tokens in one row. Flat positions number the (b, t) grid row by row.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from interp.datasets import TokenBatch
from saes.group_top import top_of_groups

LEFT_SHARE = 2 / 3
"""Part of a window before the peak, where the document has that much."""
LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch with its code, ready to be looked up by flat position."""

    tokens: TokenBatch
    code: Code
    flat: Int[Tensor, " n"]
    span: Int[Tensor, " n"]
    begin: Int[Tensor, " s"]
    end: Int[Tensor, " s"]
    kept: Int[Tensor, " b_times_t"]

    @staticmethod
    def of(tokens: TokenBatch, code: Code) -> "_Batch":
        begins = torch.ones_like(tokens.keep)
        begins[:, 1:] = tokens.document[:, 1:] != tokens.document[:, :-1]
        span = begins.flatten().cumsum(0) - 1
        begin = begins.flatten().nonzero()[:, 0]
        end = torch.cat([begin[1:], torch.tensor([begins.numel()])])
        flat = tokens.keep.flatten().nonzero()[:, 0]
        kept = torch.full((begins.numel(),), -1)
        kept[flat] = torch.arange(flat.shape[0])
        return _Batch(tokens, _sorted(code), flat, span[flat], begin, end, kept)

    def windows(
        self, peak: Int[Tensor, " m"], span: Int[Tensor, " m"], feature: Int[Tensor, " m"], width: int
    ) -> tuple[Int[Tensor, "m w"], Float[Tensor, "m w"], Int[Tensor, " m"]]:
        """Token ids (-1 outside the span), the feature's activations, and the peak's place in the window."""
        begin, end = self.begin[span], self.end[span]
        start = torch.minimum(peak - int(width * LEFT_SHARE), end - width).maximum(begin)
        where = start[:, None] + torch.arange(width)
        inside = where < end[:, None]
        where = torch.where(inside, where, peak[:, None])
        tokens = torch.where(inside, self.tokens.token_ids.flatten()[where], -1)
        acts = self._activations(self.kept[where], feature[:, None].expand_as(where))
        return tokens, torch.where(inside, acts, 0.0), peak - start

    def _activations(self, kept: Int[Tensor, "m w"], feature: Int[Tensor, "m w"]) -> Float[Tensor, "m w"]:
        keys = self.code.rows() * self.code.d_sae + self.code.features
        if keys.numel() == 0:
            return torch.zeros(kept.shape)
        wanted = kept * self.code.d_sae + feature
        place = torch.searchsorted(keys, wanted).clamp(max=keys.shape[0] - 1)
        found = (keys[place] == wanted) & (kept >= 0)
        return torch.where(found, self.code.values[place].float(), 0.0)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Entries that may enter the lists: feature, value, and which kept token of the batch."""

    feature: Int[Tensor, " m"]
    value: Float[Tensor, " m"]
    token: Int[Tensor, " m"]

    def take(self, index: Int[Tensor, " _"]) -> "_Candidates":
        return _Candidates(self.feature[index], self.value[index], self.token[index])


class TopExamples:
    """The K strongest spans of every feature so far, each shown by a window around its peak.

    A span gives a feature at most one example, its peak, or one loud passage would fill the list. Ties are broken by
    first occurrence. Zero values, and tokens of -1, mean that there is no such example.
    """

    def __init__(self, d_sae: int, n_examples: int, width: int) -> None:
        shape = (d_sae, n_examples)
        self.values = torch.zeros(shape)
        self.tokens = torch.full((*shape, width), -1, dtype=torch.int32)
        self.acts = torch.zeros(*shape, width, dtype=torch.float16)
        self.peak = torch.zeros(shape, dtype=torch.int32)
        self.document = torch.full(shape, -1, dtype=torch.int64)
        self.position = torch.full(shape, -1, dtype=torch.int32)

    def add(self, tokens: TokenBatch, code: Code) -> None:
        """Look through a batch; `code` has one row per kept token."""
        # Once the lists are full few entries pass this, so what follows is cheap.
        strong = (code.values > self.values[:, -1][code.features]).nonzero()[:, 0]
        if strong.numel() == 0:
            return
        batch = _Batch.of(tokens, code)
        found = _Candidates(code.features[strong], code.values[strong], code.rows()[strong])
        peaks, _ = top_of_groups(batch.span[found.token] * code.d_sae + found.feature, found.value, 1)
        # Peaks come ordered by span, so that ties between spans fall to the first.
        best, rank = top_of_groups(found.feature[peaks], found.value[peaks], self.values.shape[1])
        self._merge(batch, found.take(peaks[best]), rank)

    def _merge(self, batch: _Batch, candidates: _Candidates, rank: Int[Tensor, " m"]) -> None:
        touched, line = candidates.feature.unique(return_inverse=True)
        n_examples = self.values.shape[1]
        offered = torch.zeros(touched.shape[0], n_examples)
        number = torch.full(offered.shape, -1)
        offered[line, rank] = candidates.value
        number[line, rank] = torch.arange(rank.shape[0])
        # Stable, and what was there comes first: of equal values the earlier stays ahead.
        both = torch.cat([self.values[touched], offered], dim=1)
        order = both.sort(dim=1, descending=True, stable=True).indices[:, :n_examples]
        self._keep(touched, order.clamp(max=n_examples - 1))
        entrant = torch.where(order >= n_examples, number.gather(1, (order - n_examples).clamp(min=0)), -1)
        lines, slots = (entrant >= 0).nonzero(as_tuple=True)
        self._put(batch, candidates.take(entrant[lines, slots]), slots)

    def _keep(self, touched: Tensor, order: Tensor) -> None:
        lines = touched[:, None]
        for kept in (self.values, self.tokens, self.acts, self.peak, self.document, self.position):
            kept[touched] = kept[lines, order]

    def _put(self, batch: _Batch, entering: _Candidates, slots: Int[Tensor, " m"]) -> None:
        flat, span = batch.flat[entering.token], batch.span[entering.token]
        tokens, acts, peak = batch.windows(flat, span, entering.feature, self.tokens.shape[2])
        at = entering.feature, slots
        self.values[at] = entering.value
        self.tokens[at] = tokens.int()
        self.acts[at] = acts.clamp(max=LARGEST_HALF).half()
        self.peak[at] = peak.int()
        self.document[at] = batch.tokens.document.flatten()[flat]
        self.position[at] = batch.tokens.position_ids.flatten()[flat].int()


def _sorted(code: Code) -> Code:
    """The same code with features ascending within each token, as lookups by (token, feature) need."""
    rows = code.rows()
    keys = rows * code.d_sae + code.features
    if bool((keys[1:] > keys[:-1]).all()):
        return code
    order = keys.sort().indices
    return Code(code.values[order], code.features[order], code.row_offsets, code.d_sae)
