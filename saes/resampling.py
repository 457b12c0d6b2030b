"""Dead features that start anew from what the dictionary reconstructs badly.

Codes of a codebook, which have no encoder of their own, start anew from such tokens themselves.

Axes: b tokens, d width of the input, o width of the output, m dead features.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import ActivationBatch
from interp.distributed import ALONE, Ranks
from interp.errors import ConfigError

if TYPE_CHECKING:
    from saes.base import SAE
    from saes.codebook_base import CodebookSAE

ENCODER_SHARE = 0.2
"""Norm of a new encoder row, as a share of the mean norm of those of living features."""


def due(sae: "SAE", n_tokens: int) -> bool:
    """Whether the step of `n_tokens` that was just counted has passed one of the resampling moments."""
    if sae.token_budget is None:
        return False
    after = sae.updates_so_far() * n_tokens
    moments = (share * sae.token_budget for share in sae.config.resample_at)
    return any(after - n_tokens < moment <= after for moment in moments)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens for the dead features of all ranks; those of this rank that start anew, and which tokens are theirs."""

    of_all: Int[Tensor, " n"]
    features: Int[Tensor, " m"]
    own: slice

    @property
    def n(self) -> int:
        """How many features of all ranks start anew."""
        return self.of_all.shape[0]

    @property
    def tokens(self) -> Int[Tensor, " m"]:
        """For each of this rank's its token."""
        return self.of_all[self.own]


@torch.no_grad()
def resample(
    sae: "SAE",
    batch: ActivationBatch | None,
    optimiser: torch.optim.Optimizer,
    *,
    ranks: Ranks = ALONE,
    residual_of: Callable[[ActivationBatch], Tensor] | None = None,
) -> int:
    """Give each dead feature a token, drawn in proportion to its squared loss: decoder and encoder point at what is
    left of that token, the bias is zero and the optimiser forgets. Gives how many there were.

    Where more features are dead than there are tokens in the batch, the rest waits. On several ranks, which all ask for
    it, `sae` has this rank's features, and `residual_of` tells what all ranks' leave of a batch; they draw alike.

    Raises: ConfigError if the report of the step did not hold its batch.
    Source: Bricken et al. 2023, "Towards monosemanticity", appendix (neuron resampling), which points rows at the
    token itself; the residual is what the living features do not say of it.
    """
    batch = _checked(sae, batch)
    dead = _dead(sae)
    counts = ranks.all_objects(dead.shape[0])
    if sum(counts) == 0:
        return 0
    centred, residual = sae.centred(batch.stacked(sae.hooks_in)), (residual_of or sae.residual)(batch)
    drawn = _drawn(sae, dead, residual, counts, ranks.rank)
    # With the decoder norms that free decoders move into the encoder: new rows have norm one.
    norms, alive = torch.linalg.vector_norm(sae.weights().encoder, dim=1), torch.ones_like(sae.b_enc)
    alive[dead] = 0
    usual = mean_over(norms, alive, ranks)
    norm = 1.0 if usual is None else ENCODER_SHARE * usual
    unit, left = torch.nn.functional.normalize, residual[drawn.tokens]
    if sae.W_dec.requires_grad:
        sae.W_dec[drawn.features] = unit(left, dim=1)
    # What is left over lives in the space of the output, which the encoder of a transcoder does not read.
    read = left if sae.hooks_in == sae.hooks_out else centred[drawn.tokens]
    sae.W_enc[drawn.features] = norm * unit(read, dim=1)
    sae.restart(drawn.features, ranks)
    _forget(optimiser, ((sae.get_parameter(name), drawn.features) for name in sae.sparse_parameters))
    return drawn.n


@torch.no_grad()
def resample_codes(
    sae: "CodebookSAE",
    batch: ActivationBatch | None,
    optimiser: torch.optim.Optimizer,
    *,
    ranks: Ranks = ALONE,
    whole: "Renewable | None" = None,
) -> int:
    """Make each dead code that of a token drawn in proportion to its squared loss; the optimiser forgets.

    A code is compared with the token itself, so it begins as that (or as what earlier stages leave of it). Gives how
    many there were; where more codes are dead than there are tokens in the batch, the rest waits. On several ranks
    `sae` has this rank's codes and `whole` speaks for those of all.

    Raises: ConfigError if the report of the step did not hold its batch.
    """
    batch = _checked(sae, batch)
    dead = _dead(sae)
    counts = ranks.all_objects(dead.shape[0])
    if sum(counts) == 0:
        return 0
    of_all = sae if whole is None else whole
    drawn = _drawn(sae, dead, of_all.residual(batch), counts, ranks.rank)
    of_all.renew(drawn.features, sae.centred(batch.stacked(sae.hooks_in))[drawn.of_all], drawn.own)
    sae.refresh()
    sae.restart(drawn.features)
    _forget(optimiser, sae.renewed_parameters(drawn.features))
    return drawn.n


class Renewable(Protocol):
    """A codebook, or all parts of one."""

    def residual(self, batch: ActivationBatch) -> Float[Tensor, "b o"]:
        """What the codes leave of the scaled activation."""
        ...

    def renew(self, dead: Int[Tensor, " m"], tokens: Float[Tensor, "n d"], own: slice) -> None:
        """Make each dead code that of one of the centred tokens, of which `own` are for these."""
        ...


def mean_over(x: Float[Tensor, " f"], chosen: Float[Tensor, " f"], ranks: Ranks) -> Float[Tensor, ""] | None:
    """Mean over the features of all ranks whose `chosen` is one; None where there is none."""
    total, n = ranks.add(torch.stack([(x * chosen).sum(), chosen.sum()]))
    return total / n if float(n) > 0 else None


def _checked(sae: "SAE", batch: ActivationBatch | None) -> ActivationBatch:
    if batch is None or sae.dead_after_tokens is None:
        raise ConfigError("got a step report without its batch; expected the report that `losses` gave for this step")
    return batch


def _dead(sae: "SAE") -> Int[Tensor, " m"]:
    return (sae.tokens_since_fired >= (sae.dead_after_tokens or 0)).nonzero()[:, 0]


def _drawn(
    sae: "SAE", dead: Int[Tensor, " m"], residual: Float[Tensor, "b o"], counts: Sequence[int], rank: int
) -> Drawn:
    """Tokens for the dead of all ranks, of which each takes those of its own: ranks hold ascending features."""
    generator = torch.Generator().manual_seed(sae.config.resample_seed * 1_000_003 + sae.updates_so_far())
    chosen = _draw(residual.square().sum(1).square(), sum(counts), generator).to(dead.device)
    before = min(sum(counts[:rank]), chosen.shape[0])
    n_own = min(dead.shape[0], chosen.shape[0] - before)
    return Drawn(chosen, dead[:n_own], slice(before, before + n_own))


def _forget(optimiser: torch.optim.Optimizer, entries: Iterable[tuple[torch.nn.Parameter, Any]]) -> None:
    """Moments of these entries at zero, as those of new ones."""
    for parameter, index in entries:
        slots = optimiser.state[parameter].values() if parameter in optimiser.state else ()
        for slot in slots:
            if isinstance(slot, Tensor) and slot.shape == parameter.shape:
                slot[index] = 0


def _draw(weight: Float[Tensor, " b"], n: int, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Distinct tokens in proportion to their weight, at most as many as have any."""
    weight = weight.double().cpu()
    n = min(n, int((weight > 0).sum()))
    return torch.multinomial(weight / weight.sum(), n, generator=generator) if n else torch.zeros(0, dtype=torch.int64)
