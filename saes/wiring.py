"""Between a batch's activations and what a dictionary's encoder and decoder see.

Axes: b tokens, s sampled tokens, d width of the input, o width of the output, f features.
"""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.code import ActivationBatch

if TYPE_CHECKING:
    from saes.base import SAE


class Wiring(nn.Module):
    """An autoencoder's: it reads and reconstructs the same activations, scaled by one number, about b_dec.

    `sae` is the dictionary that the wiring belongs to; what a wiring holds itself is saved with it.
    """

    def centre(self, sae: "SAE") -> Float[Tensor, " d"]:
        """What is taken off the scaled input; it gets the gradient of that."""
        return sae.b_dec

    def target(self, sae: "SAE", batch: ActivationBatch, centred: Float[Tensor, "b d"]) -> Float[Tensor, "b o"]:
        """What the features shall add up to: the scaled output minus the detached b_dec."""
        del sae, batch
        return centred

    def written(self, sae: "SAE", batch: ActivationBatch, target: Float[Tensor, "b o"]) -> Float[Tensor, "b o"]:
        """All that is to be explained of the scaled output, up to a constant; `target` is the features' part."""
        del sae, batch
        return target

    def output_scale(self, sae: "SAE") -> Float[Tensor, "..."]:
        """What the output was multiplied by: one number, or one for each column."""
        return sae.input_scale

    def value_scale(self, sae: "SAE") -> Float[Tensor, ""]:
        """What a feature's value while training is to be divided by to be the one that is told."""
        return sae.input_scale

    def norms(self, rows: Float[Tensor, "f o"]) -> Float[Tensor, " f"] | None:
        """By what a penalty counts a feature, for decoder rows as they are used; None: each as one."""
        del rows
        return None

    @torch.no_grad()
    def folded(self, sae: "SAE") -> "SAE":
        """The same function of raw activations, with unit decoder rows."""
        other = sae.with_unit_decoder()
        # Scaling the input of a ReLU layer scales its output: only what is not a product with x must follow.
        for name in ("b_enc", "b_dec", "threshold", *other.biases):
            tensor: Tensor = getattr(other, name)
            tensor.div_(sae.input_scale)
        other.input_scale.fill_(1.0)
        return other

    @torch.no_grad()
    def start(
        self, sae: "SAE", sample: Float[Tensor, "s d"], output: Float[Tensor, "s o"] | None, *, normalise: bool
    ) -> None:
        """Scales and centres from a sample of raw activations."""
        del output
        centre, scale = centre_and_scale(sample, normalise=normalise)
        sae.input_scale.fill_(scale)
        sae.b_dec.copy_(centre * scale)

    @torch.no_grad()
    def tie(
        self, sae: "SAE", generator: torch.Generator, sample: Float[Tensor, "s d"], output: Float[Tensor, "s o"] | None
    ) -> None:
        """Both weight matrices, once scales and centres are set: the same random unit rows."""
        del sample, output
        rows = unit_rows(sae.d_sae, sae.d_out, generator).to(sae.W_enc.device)
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows * sae.config.encoder_scale)

    def check_decodes(self) -> None:
        """Raises: ConfigError if a code alone does not give the output."""


def unit_rows(n: int, d: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Random directions, in float64 and on the CPU, so that they are the same everywhere."""
    rows: Tensor = torch.randn(n, d, generator=generator, dtype=torch.float64)
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows


def centre_and_scale(points: Float[Tensor, "s d"], *, normalise: bool) -> tuple[Float[Tensor, " d"], float]:
    """The middle of the points, and what makes their mean distance from it sqrt(d) (one unless `normalise`)."""
    centre = geometric_median(points)
    spread = float(torch.linalg.vector_norm(points - centre, dim=1).mean())
    return centre, math.sqrt(points.shape[1]) / spread if normalise and spread > 0 else 1.0


def geometric_median(points: Float[Tensor, "s d"], *, n_iterations: int = 100) -> Float[Tensor, " d"]:
    """The point with the least sum of distances to all points, by Weiszfeld's iteration.

    Source: Weiszfeld 1937; as b_dec: Bricken et al. 2023.
    """
    centre = points.mean(0)
    for _ in range(n_iterations):
        distance = torch.linalg.vector_norm(points - centre, dim=1).clamp(min=1e-12)
        moved = (points / distance[:, None]).sum(0) / (1 / distance).sum()
        step = torch.linalg.vector_norm(moved - centre)
        centre = moved
        if float(step) <= 1e-6 * float(distance.mean()):
            break
    return centre
