"""Latent quantisation: linear latents, each rounded to the nearest of a few learnt values of its own.

Axes: b tokens, s sampled tokens, d width of the activations, n latents, l levels, f = n·l codes, m dead codes.
"""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.code import Code
from saes.base import Reconstruction
from saes.codebook_base import CodebookSAE
from saes.config import SAEConfig

START_ROUNDS = 10
"""Rounds of k-means on the first sample, before training starts."""


@final
class LatentCodebook(CodebookSAE):
    """k latents encoder (x - b_dec), each of which takes one of `levels` values; a code is a latent at one of them.

    So k of the d_sae = k · levels codes are active, one for each latent, and the code of latent j and level i stands at
    j · levels + i; its row of W_dec is that value times the latent's decoder row. The encoder's gradient passes the
    rounding as if it were not there; levels follow the latents that are rounded to them.
    Source: Hsu et al. 2023 (arXiv 2305.18378), section 3 (QLAE), with linear encoder and decoder and without its weight
    decay; commitment as there, with one weight for both of its terms.
    """

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        # Neither matrix is a parameter: both repeat rows of what is.
        table = self.W_dec.detach()
        del self.W_dec
        self.register_buffer("W_dec", table)
        self.encoder = nn.Parameter(table.new_zeros(config.k, d_in))
        self.decoder = nn.Parameter(table.new_zeros(config.k, d_in))
        self.values = nn.Parameter(table.new_zeros(config.k, config.levels))

    @torch.no_grad()
    def chosen(self, centred: Float[Tensor, "b d"]) -> Int[Tensor, "b n"]:
        return self._codes(self.nearest(centred @ self.encoder.t()))

    def nearest(self, latents: Float[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """The level that each latent is rounded to; of equally near ones the first."""
        distance = (latents.detach()[:, :, None] - self.values.detach()).abs()
        return distance.argmin(2)

    def _codes(self, level: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        return level + self._first(level)

    def _first(self, like: Tensor) -> Int[Tensor, " n"]:
        return torch.arange(self.config.k, device=like.device) * self.config.levels

    def reconstruct(
        self,
        centred: Float[Tensor, "b d"],
        target: Float[Tensor, "b d"],
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
        *,
        provisional: bool = False,
    ) -> Reconstruction:
        """The error, whose gradient passes the rounding, and how far latents and levels are apart, weighed."""
        del widths, provisional
        n_tokens = centred.shape[0]
        latents = centred @ self.encoder.t()
        level = self.nearest(latents)
        rounded = self.values.expand(n_tokens, -1, -1).gather(2, level[:, :, None])[:, :, 0]
        through = latents + (rounded - latents).detach()
        error = (target - through @ self.decoder).square().sum() / n_tokens
        apart = (latents.detach() - rounded).square().sum() + (latents - rounded.detach()).square().sum()
        nothing = target.square().sum() / n_tokens
        codes = self._codes(level).flatten()
        offsets = torch.arange(n_tokens + 1, device=codes.device) * self.config.k
        code = Code(centred.new_ones(codes.shape[0]), codes, offsets, self.d_sae)
        errors = torch.stack([nothing, error.detach()])
        pull = self.config.commitment * apart / n_tokens
        return Reconstruction(code, 0, term_weights[-1] * error, errors, None, extra=pull)

    @torch.no_grad()
    def refresh(self) -> None:
        """What each code adds, and what it looks at."""
        self.W_dec.copy_((self.values[:, :, None] * self.decoder[:, None]).flatten(0, 1))
        self.W_enc.copy_(self.encoder.repeat_interleave(self.config.levels, dim=0))

    def slopes(self) -> Float[Tensor, "f d"]:
        """Such that the reconstruction changes as that of the latents would without rounding."""
        value = self.values.flatten()
        safe = torch.where(value.abs() > 1e-6, value, torch.full_like(value, torch.inf))
        return self.encoder.repeat_interleave(self.config.levels, dim=0) / safe[:, None]

    @torch.no_grad()
    def start(self, centred: Float[Tensor, "s d"], seed: int = 0) -> None:
        """Principal axes of the sample, read and written alike; each latent's levels by k-means from its quantiles.

        Where there are more latents than axes, the others begin with random orthonormal directions and share the work.
        """
        del seed
        k, d = self.config.k, centred.shape[1]
        axes = torch.linalg.eigh(centred.double().t() @ centred.double()).eigenvectors.flip(1).t()
        others = [torch.linalg.qr(block.t()).Q.t() for block in self.W_dec[d:k].double().split(d) if k > d]
        directions = torch.cat([axes, *others])[:k]
        self.encoder.copy_(directions)
        self.decoder.copy_(directions / (1 + len(others)))
        latents = centred @ self.encoder.t()
        at = (torch.arange(self.config.levels, device=centred.device) + 0.5) / self.config.levels
        self.values.copy_(torch.quantile(latents, at.to(latents.dtype), dim=0).t())
        for _ in range(START_ROUNDS):
            self._settle(latents)
        self.refresh()

    def _settle(self, latents: Float[Tensor, "s n"]) -> None:
        """Each level to the mean of the latents that are rounded to it; one to which none is stays."""
        codes = self._codes(self.nearest(latents)).flatten()
        taken = codes.new_zeros(self.d_sae).index_add_(0, codes, torch.ones_like(codes))
        sums = latents.new_zeros(self.d_sae).index_add_(0, codes, latents.flatten())
        means = (sums / taken.clamp(min=1)).view_as(self.values)
        self.values.copy_(torch.where(taken.view_as(means) > 0, means, self.values))

    @torch.no_grad()
    def renew(self, dead: Int[Tensor, " m"], tokens: Float[Tensor, "m d"], own: slice = slice(None)) -> None:
        self.values.view(-1)[dead] = (tokens[own] * self.encoder[dead // self.config.levels]).sum(1)

    def renewed_parameters(self, dead: Int[Tensor, " m"]) -> tuple[tuple[nn.Parameter, Any], ...]:
        return ((self.values, (dead // self.config.levels, dead % self.config.levels)),)

    def fold_scale(self, scale: Float[Tensor, ""]) -> None:
        self.encoder.mul_(scale)
        self.decoder.div_(scale)
