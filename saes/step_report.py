"""How what a batch gave makes up a step's loss and the terms that are told of it.

Axes: b tokens, o width of the output, g prefixes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.code import ActivationBatch, Code
from interp.loop import StepReport
from saes.losses import LossVariant, aux_weight

if TYPE_CHECKING:
    from saes.base import SAE


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What one batch gave: weighed prefix errors, each error apart (detached), the dead features' loss.

    `code` is what fired. `penalty` is before it is weighed, `extra` a loss of the architecture's own.

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
    n_tokens, l0 = target.shape[0], result.code.values.shape[0] / max(target.shape[0], 1)
    terms["explained_variance"] = 1 - terms["mse"] / _variance(sae.wiring.written(sae, batch, target).detach())
    counts = {"l0": torch.tensor(l0), "fallbacks": torch.tensor(result.fallbacks)}
    told = {"loss": loss.detach(), **terms, **counts}
    return StepReport(loss=loss, terms=told, n_tokens=n_tokens, code=result.code, batch=batch)


def _variance(written: Float[Tensor, "b o"]) -> Float[Tensor, ""]:
    """Per token, about the batch's mean: near enough for a curve; saes.evaluation has the real one."""
    variance: Tensor = torch.linalg.vector_norm(written).square() / written.shape[0] - written.mean(0).square().sum()
    return variance
