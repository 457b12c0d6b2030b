"""Codebook SAEs: the k codes nearest in direction, of the whole activation, of each of its parts, or stage by stage.

Axes: b tokens, s sampled tokens, d width of the activations, f codes, p codes of a part, k active codes, m dead codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ConfigError
from saes.base import Reconstruction
from saes.codebook_base import CodebookSAE
from saes.config import SAEConfig
from saes.ops.dense import dense_pays, dense_prefix_losses
from saes.ops.encode import Preactivations
from saes.ops.select import select_per_token
from saes.ops.sparse import Pattern, prefix_losses

START_ROUNDS = 5
"""Rounds of k-means on the first sample, before training starts."""


@dataclass(frozen=True, slots=True)
class Part:
    """One codebook of several: its codes, the columns that it codes, how many codes of it are active."""

    codes: slice
    columns: slice
    k: int


@final
class CosineCodebook(CodebookSAE):
    """Each token's k codes of largest cosine a·cᵢ / (‖a‖ ‖cᵢ‖), a being the activation about b_dec; they are added up.

    grouped: so for each of n_groups parts of the activation, with codes that are zero elsewhere. residual: in n_stages,
    where a is what the stages before leave. One group or one stage is the plain codebook. W_enc holds the codes'
    directions, which follow W_dec and have no gradient: the codes' gradient is that of what they reconstruct.
    Source: Tamkin et al. 2023 (arXiv 2310.17230), section 2.
    """

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.parts = parts_of(config, d_in)
        self.sequential = config.codebook_variant == "residual"

    @property
    def share(self) -> float:
        return 1.0 / self.parts[0].k if self.config.code_sum == "mean" else 1.0

    @torch.no_grad()
    def chosen(self, centred: Float[Tensor, "b d"]) -> Int[Tensor, "b k"]:
        return torch.cat([found for _, found in self._walk(centred)], dim=1)

    def _walk(self, centred: Float[Tensor, "b d"]) -> list[tuple[Float[Tensor, "b _"], Int[Tensor, "b _"]]]:
        """For each part what it is to code, and the codes that it takes."""
        left, walked = centred, []
        for index, part in enumerate(self.parts):
            seen = left[:, part.columns]
            found = nearest_codes(seen, self.W_enc[part.codes, part.columns], part.k, self.dtype).codes
            found = found + part.codes.start
            walked.append((seen, found))
            if self.sequential and index + 1 < len(self.parts):
                left = left - self.share * self.W_dec[found.flatten()].view(*found.shape, -1).sum(1)
        return walked

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the product with the codes' directions."""
        return torch.bfloat16 if self.config.encoder_dtype == "bfloat16" else self.W_enc.dtype

    def reconstruct(
        self,
        centred: Float[Tensor, "b d"],
        target: Float[Tensor, "b d"],
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
        *,
        provisional: bool = False,
    ) -> Reconstruction:
        """Errors of all prefixes, weighed; their gradient goes to the active codes alone."""
        del provisional
        code = self.code_of(centred)
        values = code.values * self.share
        if dense_pays(code, self.d_in):
            acts = self.share * code.dense()
            errors = dense_prefix_losses(target, acts, self.W_dec, widths)[0]
            loss = (errors * target.new_tensor(term_weights)).sum()
            return Reconstruction(code, 0, loss, errors.detach(), None)
        none = code.features[:0]
        found = prefix_losses(target, self.b_dec, values, self.W_dec, Pattern.of(code), widths, term_weights, none)
        return Reconstruction(code, 0, found.loss, found.errors, None)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Codes of a group stay zero outside of its columns."""
        if self.W_dec.grad is not None:
            self._clear_outside(self.W_dec.grad)

    def _clear_outside(self, rows: Float[Tensor, "f d"]) -> None:
        for part in self.parts:
            rows[part.codes, : part.columns.start] = 0
            rows[part.codes, part.columns.stop :] = 0

    @torch.no_grad()
    def refresh(self) -> None:
        """Directions of the codes."""
        self.W_enc.copy_(torch.nn.functional.normalize(self.W_dec, dim=1))

    def slopes(self) -> Float[Tensor, "f d"]:
        """Of the projection on a code, in units of its length."""
        square = self.W_dec.square().sum(1, keepdim=True).clamp(min=1e-12)
        return self.W_dec / (square * self.share)

    @torch.no_grad()
    def start(self, centred: Float[Tensor, "s d"], seed: int = 0) -> None:
        """Each part's codes: tokens of the sample (or what earlier stages leave of them), then a few rounds of k-means.

        Where there are more codes than tokens, the others keep their random directions.
        """
        generator = torch.Generator().manual_seed(seed)
        left = centred
        for part in self.parts:
            seen = left[:, part.columns]
            order = torch.randperm(seen.shape[0], generator=generator).to(seen.device)
            norm = torch.linalg.vector_norm(seen, dim=1).mean()
            rows = torch.nn.functional.normalize(self.W_dec[part.codes, part.columns], dim=1) * norm
            n = min(rows.shape[0], seen.shape[0])
            rows[:n] = seen[order[:n]]
            rows = settled(rows, seen, part.k)
            self.W_dec[part.codes] = 0
            self.W_dec[part.codes, part.columns] = rows * self._per_code(part)
            if self.sequential:
                found = nearest_codes(seen, torch.nn.functional.normalize(rows, dim=1), part.k).codes
                left = left - rows[found.flatten()].view(*found.shape, -1).sum(1) / part.k
        self.refresh()

    @torch.no_grad()
    def renew(self, dead: Int[Tensor, " m"], tokens: Float[Tensor, "m d"], own: slice = slice(None)) -> None:
        self.renew_from(dead, [seen for seen, _ in self._walk(tokens[own])])

    @torch.no_grad()
    def renew_from(self, dead: Int[Tensor, " m"], seen: Sequence[Float[Tensor, "m _"]]) -> None:
        """Make each dead code what its part is to code of one token, told for every part."""
        for part, of_part in zip(self.parts, seen, strict=True):
            own = (dead >= part.codes.start) & (dead < part.codes.stop)
            self.W_dec[dead[own], part.columns] = of_part[own] * self._per_code(part)

    def renewed_parameters(self, dead: Int[Tensor, " m"]) -> tuple[tuple[torch.nn.Parameter, Any], ...]:
        return ((self.W_dec, dead),)

    def _per_code(self, part: Part) -> float:
        """Length of a code beside a token that it and its like make up."""
        return 1.0 if self.config.code_sum == "mean" else 1.0 / part.k

    def fold_scale(self, scale: Float[Tensor, ""]) -> None:
        self.W_dec.div_(scale)


def parts_of(config: SAEConfig, d_in: int) -> tuple[Part, ...]:
    """The codebooks of a config.

    Raises: ConfigError if the activation cannot be cut into as many parts, or a part has fewer codes than are active.
    """
    n = config.n_parts
    size, k = config.d_sae // n, config.k // n
    if config.codebook_variant != "grouped":
        return tuple(Part(slice(i * size, (i + 1) * size), slice(0, d_in), k) for i in range(n))
    if d_in % n:
        raise ConfigError(f"sae.n_groups: got {n} for activations of width {d_in}; give one that divides it")
    width = d_in // n
    columns = [slice(i * width, (i + 1) * width) for i in range(n)]
    return tuple(Part(slice(i * size, (i + 1) * size), columns[i], k) for i in range(n))


@dataclass(frozen=True, slots=True)
class Nearest:
    """The codes of largest cosine with each token, ascending, and their products with it."""

    codes: Int[Tensor, "b k"]
    products: Float[Tensor, "b k"]


@torch.no_grad()
def nearest_codes(
    x: Float[Tensor, "b d"], directions: Float[Tensor, "p d"], k: int, dtype: torch.dtype = torch.float32
) -> Nearest:
    """The k unit directions of largest cosine with each row; of equals the first.

    The norm of a row changes no order, so that this is an encoder's product and its selection. Rows with fewer than k
    positive cosines, which that passes over, are ranked whole.
    """
    zero = directions.new_zeros(directions.shape[0])
    code = select_per_token(Preactivations(x, directions, zero, dtype), k).code
    counts = code.row_offsets.diff()
    short = (counts < k).nonzero()[:, 0]
    if short.numel() == 0:
        return Nearest(code.features.long().view(-1, k), code.values.view(-1, k))
    found, products = x.new_empty(x.shape[0], k, dtype=torch.int64), x.new_empty(x.shape[0], k)
    whole = (counts == k)[code.rows()]
    found[counts == k], products[counts == k] = code.features[whole].long().view(-1, k), code.values[whole].view(-1, k)
    cosines = (x[short].to(dtype) @ directions.t().to(dtype)).to(x.dtype)
    found[short] = cosines.sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    products[short] = cosines.gather(1, found[short])
    return Nearest(found, products)


@torch.no_grad()
def settled(
    rows: Float[Tensor, "p d"], x: Float[Tensor, "s d"], k: int, *, n_rounds: int = START_ROUNDS
) -> Float[Tensor, "p d"]:
    """Codes after rounds of k-means by cosine, of such a length that the mean of a token's k codes is nearest to it.

    A code moves to the mean of the tokens that take it; one that none takes stays.
    """
    for _ in range(n_rounds):
        found = nearest_codes(x, torch.nn.functional.normalize(rows, dim=1), k).codes
        taken = found.new_zeros(rows.shape[0]).index_add_(0, found.flatten(), torch.ones_like(found.flatten()))
        sums = torch.zeros_like(rows).index_add_(0, found.flatten(), x.repeat_interleave(k, dim=0))
        rows = torch.where(taken[:, None] > 0, sums / taken.clamp(min=1)[:, None], rows)
    found = nearest_codes(x, torch.nn.functional.normalize(rows, dim=1), k).codes
    made = rows[found.flatten()].view(*found.shape, -1).mean(1)
    return rows * ((made * x).sum() / made.square().sum().clamp(min=1e-30))
