"""A codebook over several ranks: each holds a range of codes, of one part or of several.

A rank looks for the nearest among its own codes of a part and learns which of them are the nearest of all. What one
stage leaves to the next is added up before that looks.
Axes: b tokens, d width of the activations, k active codes, m candidates of this rank, n tokens of dead codes.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import ActivationBatch, Code, offsets_of
from interp.distributed import Ranks
from interp.loop import StepReport
from saes.codebook import CosineCodebook, Nearest, Part, nearest_codes, parts_of
from saes.config import SAEConfig
from saes.ops.dense import dense_pays
from saes.ops.merge import kept_of_signed
from saes.ops.sharded import dense_group_sums, group_sums, own_widths, summed_errors
from saes.ops.sparse import Pattern
from saes.resampling import resample_codes
from saes.sharded import ShardedSAE
from saes.step_report import Reconstruction


@dataclass(frozen=True, slots=True)
class _Found:
    """What a part is to code, this rank's candidates for it, and which of them are active."""

    seen: Float[Tensor, "b _"]
    codes: Int[Tensor, "b m"]
    kept: Bool[Tensor, "b m"]


class ShardedCodebook(ShardedSAE):
    """A rank's codes of a codebook, as a Trainable."""

    own: CosineCodebook

    def __init__(self, own: CosineCodebook, config: SAEConfig, ranks: Ranks) -> None:
        super().__init__(own, config, ranks)
        # A part of the whole's may begin at one rank and end at another.
        own.parts = tuple(self._cut(part) for part in parts_of(config, own.d_in))

    def _cut(self, part: Part) -> Part:
        edges = (min(max(edge - self.first, 0), self.own.d_sae) for edge in (part.codes.start, part.codes.stop))
        return replace(part, codes=slice(*edges))

    def reconstruct(
        self,
        centred: Float[Tensor, "b d"],
        target: Float[Tensor, "b d"],
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
    ) -> Reconstruction:
        """Errors of all prefixes of the whole, weighed; their gradient goes to the active codes alone."""
        own, code = self.own, self._code(centred)
        mine = own_widths(widths, self.first, own.d_sae)
        if dense_pays(code, own.d_in):
            sums = dense_group_sums(own.share * code.dense(), own.W_dec, mine)
        else:
            sums, _ = group_sums(code.values * own.share, own.W_dec, Pattern.of(code), mine, code.features[:0])
        done = summed_errors(target, own.b_dec, sums, term_weights, self.ranks)
        return Reconstruction(code, 0, done.loss, done.errors, None)

    @torch.no_grad()
    def residual(self, batch: ActivationBatch) -> Float[Tensor, "b d"]:
        """What the codes of all ranks leave of the scaled activation."""
        centred = self.own.centred(batch.stacked(self.own.hooks_in))
        found = self._walk(centred)
        return centred - self.own.share * self.ranks.add(sum_of(self.own.W_dec, found))

    @torch.no_grad()
    def renew(self, dead: Int[Tensor, " m"], tokens: Float[Tensor, "n d"], own: slice) -> None:
        """Make each of this rank's dead codes that of one of the tokens of all ranks' dead codes."""
        self.own.renew_from(dead, [found.seen[own] for found in self._walk(tokens)])

    def _resample(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        resample_codes(self.own, report.batch, optimiser, ranks=self.ranks, whole=self)

    def _code(self, centred: Float[Tensor, "b d"]) -> Code:
        """This rank's active codes of each token, all values one."""
        found = self._walk(centred)
        codes, kept = (torch.cat([getattr(one, name) for one in found], dim=1) for name in ("codes", "kept"))
        features = codes[kept]
        return Code(torch.ones_like(features, dtype=centred.dtype), features, offsets_of(kept.sum(1)), self.own.d_sae)

    @torch.no_grad()
    def _walk(self, centred: Float[Tensor, "b d"]) -> list[_Found]:
        """As the whole does, part by part."""
        own, left, walked = self.own, centred, list[_Found]()
        for index, part in enumerate(own.parts):
            seen = left[:, part.columns]
            near = self._nearest(seen, part)
            kept = kept_of_signed(near.products, part.k, self.ranks)
            walked.append(_Found(seen, near.codes + part.codes.start, kept))
            if own.sequential and index + 1 < len(own.parts):
                left = left - own.share * self.ranks.add(sum_of(own.W_dec, walked[-1:]))
        return walked

    def _nearest(self, seen: Float[Tensor, "b _"], part: Part) -> Nearest:
        n = part.codes.stop - part.codes.start
        if n == 0:
            return Nearest(torch.zeros(seen.shape[0], 0, dtype=torch.int64, device=seen.device), seen[:, :0])
        return nearest_codes(seen, self.own.W_enc[part.codes, part.columns], min(part.k, n), self.own.dtype)


def sum_of(rows: Float[Tensor, "f d"], found: list[_Found]) -> Float[Tensor, "b d"]:
    """For each token the sum of its active codes among these."""
    parts = [(rows[one.codes] * one.kept[:, :, None]).sum(1) for one in found]
    return torch.stack(parts).sum(0)
