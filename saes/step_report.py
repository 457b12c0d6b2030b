"""How what a batch gave makes up a step's loss and the terms that are told of it.

Axes: b tokens, o width of the output, g prefixes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.code import ActivationBatch, Code
from interp.loop import StepReport
from saes.losses import LossVariant, aux_weight

if TYPE_CHECKING:
    from saes.base import SAE


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What one batch gave: weighed prefix errors, each error apart (detached), the dead features' loss.

    `code` is what fired, `n_fired` how many of its entries did where some may be zero. `penalty` is before it is
    weighed, `extra` a loss of the architecture's own; `holds` says whether a provisional selection does.

    Shapes: errors (g + 1,), of the bias alone, then of each prefix.
    Units: squared error summed over o, mean over tokens, of scaled activations; penalty per token.
    """

    code: Code
    fallbacks: int
    loss: Float[Tensor, ""]
    errors: Float[Tensor, " g_plus_1"]
    aux: Float[Tensor, ""] | None
    penalty: Float[Tensor, ""] | None = None
    extra: Float[Tensor, ""] | None = None
    n_fired: Int[Tensor, ""] | None = None
    holds: Bool[Tensor, ""] | None = None


def step_report(
    sae: "SAE",
    result: Reconstruction,
    batch: ActivationBatch,
    target: Float[Tensor, "b o"],
    widths: tuple[int, ...],
    variant: LossVariant,
) -> StepReport:
    """The training loss and its terms, from what the batch gave."""
    loss, terms = result.loss, {"mse": result.errors[-1]}
    if len(widths) > 1 and sae.config.prefix_sampling == "fixed":
        terms |= {f"loss_prefix_{width}": error for width, error in zip(widths, result.errors[1:], strict=True)}
    if result.penalty is not None:
        weight = sae.penalty_weight(target.shape[0])
        loss = loss + weight * result.penalty
        terms |= {"penalty": result.penalty.detach(), "penalty_weight": torch.as_tensor(weight).clone()}
    if result.extra is not None:
        loss = loss + result.extra
        terms["extra"] = result.extra.detach()
    if result.aux is not None:
        loss = loss + aux_weight(variant, len(widths), sae.config.aux_coefficient) * result.aux
        terms["aux"] = result.aux.detach()
    n_tokens = target.shape[0]
    n_fired = torch.tensor(result.code.values.shape[0]) if result.n_fired is None else result.n_fired
    terms["explained_variance"] = 1 - terms["mse"] / _variance(sae.wiring.written(sae, batch, target).detach())
    counts = {"l0": (n_fired.double() / max(n_tokens, 1)).float(), "fallbacks": torch.tensor(result.fallbacks)}
    told = {"loss": loss.detach(), **terms, **counts}
    return StepReport(loss=loss, terms=told, n_tokens=n_tokens, code=result.code, batch=batch, holds=result.holds)


def _variance(written: Float[Tensor, "b o"]) -> Float[Tensor, ""]:
    """Per token, about the batch's mean: near enough for a curve; saes.evaluation has the real one."""
    variance: Tensor = torch.linalg.vector_norm(written).square() / written.shape[0] - written.mean(0).square().sum()
    return variance
