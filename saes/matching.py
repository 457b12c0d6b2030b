"""How well a dictionary found known features: one latent for each, and what its firing says about them.

Axes: b tokens, t true features, f latents.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from interp.errors import ShapeError


@dataclass(frozen=True, slots=True)
class Matching:
    """The latent given to each true feature, and the cosine of their directions.

    Shapes: latent, cosine (t,). No latent is given twice.
    """

    latent: Int[Tensor, " t"]
    cosine: Float[Tensor, " t"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """True features and latents paired one to one, as many as the fewer of both, and how alike each pair is.

    Shapes: feature, latent, likeness (m,), by ascending feature.
    """

    feature: Int[Tensor, " m"]
    latent: Int[Tensor, " m"]
    likeness: Float[Tensor, " m"]


@dataclass(frozen=True, slots=True)
class Detection:
    """How well latents' firing detects the features that they are matched with.

    Shapes: precision, recall, f1 (t,). A latent that never fires has precision and recall 0.
    """

    precision: Float[Tensor, " t"]
    recall: Float[Tensor, " t"]
    f1: Float[Tensor, " t"]


def match_by_cosine(truth: Float[Tensor, "t d"], decoder: Float[Tensor, "f d"]) -> Matching:
    """One latent for each true feature, such that the sum of positive cosines is as large as possible.

    A latent that points away is no worse than one that is unrelated; else a feature that was found could lose its
    latent to one that was not, only because what is left over for that one happens to point away.

    Raises: ShapeError if there are fewer latents than true features.
    Source: Kuhn 1955 (Hungarian method).
    """
    if decoder.shape[0] < truth.shape[0]:
        raise ShapeError(
            f"got {decoder.shape[0]} latents for {truth.shape[0]} true features; expected at least as many; raise d_sae"
        )
    cosine = cosines(truth, decoder).cpu()
    # Scaled down, not cut off: between two that point away the nearer one is taken.
    worth = torch.where(cosine > 0, cosine, 1e-3 * cosine)
    rows, columns = linear_sum_assignment(worth.numpy(), maximize=True)
    latent = torch.as_tensor(columns)
    return Matching(latent, cosine[torch.as_tensor(rows), latent])


def pair(likeness: Float[Tensor, "t f"]) -> Pairs:
    """The pairs whose likeness sums to the most; features or latents that are too many stay alone.

    Source: Kuhn 1955 (Hungarian method).
    """
    rows, columns = linear_sum_assignment(likeness.cpu().numpy(), maximize=True)
    feature, latent = torch.as_tensor(rows), torch.as_tensor(columns)
    return Pairs(feature, latent, likeness.cpu()[feature, latent])


def cosines(truth: Float[Tensor, "t d"], decoder: Float[Tensor, "f d"]) -> Float[Tensor, "t f"]:
    """Cosine of each true direction with each decoder row; 0 for a row of zeros."""
    unit = torch.nn.functional.normalize
    return unit(truth.double()) @ unit(decoder.double()).t()


def detection(fires: Bool[Tensor, "b t"], truth: Bool[Tensor, "b t"]) -> Detection:
    """Precision, recall and F1 of each matched latent (a column of `fires`) for its feature (of `truth`)."""
    return detection_from_counts((fires & truth).sum(0), fires.sum(0), truth.sum(0))


def detection_from_counts(hits: Int[Tensor, " t"], fired: Int[Tensor, " t"], true: Int[Tensor, " t"]) -> Detection:
    """The same from the number of tokens on which both fire, the latent fires and the feature fires."""
    both = hits.double()
    return Detection(both / fired.clamp(min=1), both / true.clamp(min=1), 2 * both / (fired + true).clamp(min=1))
