"""A bottleneck of discrete codes: the k codes most similar to an activation stand for it.

Axes: b rows, t position, g groups (heads), e width of a group, d = g·e width of the hook, c codes, k active codes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from interp.errors import ConfigError

Combine = Literal["sum", "mean"]
SIMILARITY_BYTES = 1 << 30
"""Similarities of tokens and codes that may be in memory at once: more tokens are ranked in turns."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """What a bottleneck made of activations.

    Shapes: output (b, t, d) is what flows on; ids (b, t, g, k), most similar first; normed, chosen (b, t, g, e): the
    normalised activation, without its graph, and the codes that stand for it, with theirs.
    """

    output: Float[Tensor, "b t d"]
    ids: Int[Tensor, "b t g k"]
    normed: Float[Tensor, "b t g e"]
    chosen: Float[Tensor, "b t g e"]


class Quantiser(nn.Module):
    """Codebooks side by side, one for each group of columns; every group has `n_codes` codes of its own.

    Activations are normalised within their group (LayerNorm, its weights trained); codes are ranked by cosine, so that
    their lengths do not matter for the choice; the k best are added up, or averaged.
    Source: Tamkin et al. 2023, section 2 (the sum; their code takes the mean).
    """

    codes: nn.Parameter
    hits: Tensor

    def __init__(self, width: int, *, n_codes: int, k: int = 1, n_groups: int = 1, combine: Combine = "sum") -> None:
        """Raises: ConfigError if groups do not divide the width or there are fewer than k codes."""
        super().__init__()
        if width % n_groups:
            raise ConfigError(f"got {n_groups} groups for {width} columns; expected a number that divides them")
        if not 1 <= k <= n_codes:
            raise ConfigError(f"k: got {k} of {n_codes} codes; expected from 1 to as many as there are")
        self.n_groups, self.n_codes, self.k, self.combine = n_groups, n_codes, k, combine
        self.group_width = width // n_groups
        self.weight = nn.Parameter(torch.ones(n_groups, self.group_width))
        self.bias = nn.Parameter(torch.zeros(n_groups, self.group_width))
        self.codes = nn.Parameter(torch.randn(n_groups, n_codes, self.group_width))
        self.register_buffer("hits", torch.zeros(n_groups, n_codes, dtype=torch.int64))

    @property
    def width(self) -> int:
        return self.n_groups * self.group_width

    @property
    def scale(self) -> float:
        """What each active code is multiplied by."""
        return 1.0 if self.combine == "sum" else 1.0 / self.k

    def normalise(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b g e"]:
        """LayerNorm of every group."""
        grouped = x.to(self.codes.dtype).unflatten(-1, (self.n_groups, self.group_width))
        return F.layer_norm(grouped, (self.group_width,)) * self.weight + self.bias

    @torch.no_grad()
    def nearest(self, normed: Float[Tensor, "*b g e"]) -> Int[Tensor, "*b g k"]:
        """The k codes of largest cosine in each group, most similar first."""
        unit = F.normalize(self.codes, dim=2)
        flat = normed.reshape(-1, self.n_groups, self.group_width).transpose(0, 1)
        n_rows = max(1, SIMILARITY_BYTES // (self.n_groups * self.n_codes * flat.element_size()))
        best = torch.cat([self._best(part, unit) for part in flat.split(n_rows, dim=1)], dim=1)
        return best.transpose(0, 1).reshape(*normed.shape[:-1], self.k)

    def _best(self, flat: Float[Tensor, "g n e"], unit: Float[Tensor, "g c e"]) -> Int[Tensor, "g n k"]:
        # The activation's own length scales a whole row and leaves the order as it is.
        similarity = flat @ unit.transpose(1, 2)
        return similarity.argmax(2, keepdim=True) if self.k == 1 else similarity.topk(self.k, dim=2).indices

    def combined(self, ids: Int[Tensor, "*b g k"]) -> Float[Tensor, "*b g e"]:
        """The sum, or mean, of the codes."""
        first = torch.arange(self.n_groups, device=ids.device)[:, None] * self.n_codes
        found = F.embedding(ids + first, self.codes.flatten(0, 1))
        return found.squeeze(-2) if self.k == 1 else found.sum(-2) * self.scale

    def forward(self, x: Float[Tensor, "b t d"], ids: Int[Tensor, "b t g k"] | None = None) -> Quantised:
        """Replace activations by codes; gradients of the output reach the codes, and the input as if it stood there.

        `ids` are codes to take instead of the nearest.
        """
        normed = self.normalise(x)
        ids = self.nearest(normed) if ids is None else ids
        chosen = self.combined(ids)
        # Straight through: the difference is zero, its gradient is not.
        output = chosen + (normed - normed.detach())
        return Quantised(output.flatten(-2).to(x.dtype), ids, normed.detach(), chosen)

    def count(self, ids: Int[Tensor, "n g k"]) -> None:
        """Remember which codes were active, until `hits` is next set to zero."""
        first = torch.arange(self.n_groups, device=ids.device)[:, None] * self.n_codes
        self.hits += torch.bincount((ids + first).flatten(), minlength=self.hits.numel()).view_as(self.hits)


def reconstruction_loss(found: Quantised, keep: Tensor | None = None) -> Float[Tensor, ""]:
    """Mean squared distance of codes from what they stand for, which moves the codes and nothing else.

    Units: squared normalised activation, averaged over kept tokens and columns.
    """
    distance = (found.chosen - found.normed).square().mean((2, 3))
    if keep is None:
        return distance.mean()
    return (distance * keep).sum() / keep.sum().clamp_min(1)
