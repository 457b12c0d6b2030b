"""The neurons themselves as a dictionary: what any learned features must beat.

Axes: b tokens, d width of the hook.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import Code
from interp.errors import ShapeError


@dataclass(frozen=True, slots=True)
class NeuronDictionary:
    """Every coordinate of a hook as two features, how far it is above and below its centre; nothing is lost.

    Shapes: centre (d,). Feature i < d is coordinate i above, feature d + i below.
    """

    hooks: tuple[str, ...]
    centre: Float[Tensor, " d"]

    @property
    def hooks_in(self) -> tuple[str, ...]:
        return self.hooks

    @property
    def hooks_out(self) -> tuple[str, ...]:
        return self.hooks

    @property
    def d_sae(self) -> int:
        return 2 * self.centre.shape[0]

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        """Raises: ShapeError if x has another width."""
        if x.ndim != 2 or x.shape[1] != self.centre.shape[0]:
            raise ShapeError(f"got shape {tuple(x.shape)}; expected (tokens, {self.centre.shape[0]}); check the hook")
        apart = x - self.centre.to(x)
        return Code.from_dense(torch.cat([apart.clamp(min=0), (-apart).clamp(min=0)], dim=1))

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b d"]:
        """The activations again, by the first `prefix` features only if given."""
        held = code if prefix is None else code.keep(code.features < prefix)
        above, below = held.dense().chunk(2, dim=1)
        return self.centre.to(above) + above - below

    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """Unit vectors, plus or minus."""
        d = self.centre.shape[0]
        rows = torch.zeros(features.shape[0], d, device=features.device, dtype=self.centre.dtype)
        sign = torch.where(features < d, 1.0, -1.0).to(rows)
        return rows.scatter(1, (features % d)[:, None].long(), sign[:, None])
