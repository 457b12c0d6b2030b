"""Dead features that start anew from what the dictionary reconstructs badly.

Codes of a codebook, which have no encoder of their own, start anew from such tokens themselves.

Axes: b tokens, d width of the input, o width of the output, m dead features.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import ActivationBatch
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
    after = int(sae.n_updates) * n_tokens
    moments = (share * sae.token_budget for share in sae.config.resample_at)
    return any(after - n_tokens < moment <= after for moment in moments)


@torch.no_grad()
def resample(sae: "SAE", batch: ActivationBatch | None, optimiser: torch.optim.Optimizer) -> int:
    """Give each dead feature a token, drawn in proportion to its squared loss: decoder and encoder point at what is
    left of that token, the bias is zero and the optimiser forgets. Gives how many there were.

    Where more features are dead than there are tokens in the batch, the rest waits.

    Raises: ConfigError if the report of the step did not hold its batch.
    Source: Bricken et al. 2023, "Towards monosemanticity", appendix (neuron resampling), which points rows at the
    token itself; the residual is what the living features do not say of it.
    """
    if batch is None or sae.dead_after_tokens is None:
        raise ConfigError("got a step report without its batch; expected the report that `losses` gave for this step")
    dead = (sae.tokens_since_fired >= sae.dead_after_tokens).nonzero()[:, 0]
    if dead.numel() == 0:
        return 0
    centred = sae.centred(batch.stacked(sae.hooks_in))
    residual = sae.residual(batch)
    generator = torch.Generator().manual_seed(sae.config.resample_seed * 1_000_003 + int(sae.n_updates))
    chosen = _draw(residual.square().sum(1).square(), dead.numel(), generator)
    alive = torch.ones(sae.d_sae, dtype=torch.bool, device=dead.device)
    alive[dead] = False
    dead = dead[: chosen.shape[0]]
    # With the decoder norms that free decoders move into the encoder: new rows have norm one.
    encoder = sae.weights().encoder[alive]
    norm = ENCODER_SHARE * torch.linalg.vector_norm(encoder, dim=1).mean() if bool(alive.any()) else 1.0
    unit = torch.nn.functional.normalize
    if sae.W_dec.requires_grad:
        sae.W_dec[dead] = unit(residual[chosen], dim=1)
    # What is left over lives in the space of the output, which the encoder of a transcoder does not read.
    sae.W_enc[dead] = norm * unit(residual[chosen] if sae.hooks_in == sae.hooks_out else centred[chosen], dim=1)
    sae.restart(dead)
    for parameter in (sae.get_parameter(name) for name in sae.sparse_parameters):
        slots = optimiser.state[parameter].values() if parameter in optimiser.state else ()
        for slot in slots:
            if isinstance(slot, Tensor) and slot.shape == parameter.shape:
                slot[dead] = 0
    return int(dead.numel())


@torch.no_grad()
def resample_codes(sae: "CodebookSAE", batch: ActivationBatch | None, optimiser: torch.optim.Optimizer) -> int:
    """Make each dead code that of a token drawn in proportion to its squared loss; the optimiser forgets.

    A code is compared with the token itself, so it begins as that (or as what earlier stages leave of it). Gives how
    many there were; where more codes are dead than there are tokens in the batch, the rest waits.

    Raises: ConfigError if the report of the step did not hold its batch.
    """
    if batch is None or sae.dead_after_tokens is None:
        raise ConfigError("got a step report without its batch; expected the report that `losses` gave for this step")
    dead = (sae.tokens_since_fired >= sae.dead_after_tokens).nonzero()[:, 0]
    if dead.numel() == 0:
        return 0
    generator = torch.Generator().manual_seed(sae.config.resample_seed * 1_000_003 + int(sae.n_updates))
    chosen = _draw(sae.residual(batch).square().sum(1).square(), dead.numel(), generator).to(dead.device)
    dead = dead[: chosen.shape[0]]
    sae.renew(dead, sae.centred(batch.stacked(sae.hooks_in))[chosen])
    sae.refresh()
    sae.restart(dead)
    for parameter, index in sae.renewed_parameters(dead):
        slots = optimiser.state[parameter].values() if parameter in optimiser.state else ()
        for slot in slots:
            if isinstance(slot, Tensor) and slot.shape == parameter.shape:
                slot[index] = 0
    return int(dead.numel())


def _draw(weight: Float[Tensor, " b"], n: int, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Distinct tokens in proportion to their weight, at most as many as have any."""
    weight = weight.double().cpu()
    n = min(n, int((weight > 0).sum()))
    return torch.multinomial(weight / weight.sum(), n, generator=generator) if n else torch.zeros(0, dtype=torch.int64)
