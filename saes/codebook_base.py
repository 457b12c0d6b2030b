"""What codebook SAEs share: codes that are on or off, and training whose choice of codes has no gradient of its own.

Axes: b tokens, d width of the activations, f codes, k active codes, m chosen codes.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import ActivationBatch, Code
from interp.distributed import ALONE, Ranks
from interp.errors import ConfigError
from interp.loop import StepReport
from saes.base import SAE, Weights
from saes.config import SAEConfig
from saes.ops.encode import Preactivations
from saes.ops.select import Selection
from saes.ops.sparse import Pattern, encode_values
from saes.resampling import due, resample_codes


class CodebookSAE(SAE, ABC):
    """A dictionary of discrete codes: each token is b_dec plus its k active codes, all of value one.

    Rows of W_dec are the codes, of whatever norm. Training follows the straight-through estimator: what is
    reconstructed passes its gradient to the activation as if nothing had been quantised, so that a step of the centre,
    b_dec, changes activation and reconstruction alike: its gradient is zero, and it stays where the data's middle is.
    Source: Tamkin et al. 2023 (arXiv 2310.17230), section 2; van den Oord et al. 2017 (arXiv 1711.00937), section 3.2.
    """

    def __init__(self, config: SAEConfig, d_in: int, **where: Any) -> None:
        # A code's norm is its strength: nothing may normalise the rows.
        super().__init__(config.model_copy(update={"decoder_norm": "free"}), d_in, **where)
        for fixed in (self.W_enc, self.b_enc, self.b_dec):
            fixed.requires_grad_(False)

    @abstractmethod
    def chosen(self, centred: Float[Tensor, "b d"]) -> Int[Tensor, "b k"]:
        """The active codes of each token, ascending. Carries no gradient."""

    @abstractmethod
    def slopes(self) -> Float[Tensor, "f d"]:
        """How the value of an active code would change with the scaled activation if codes had strengths."""

    @abstractmethod
    def refresh(self) -> None:
        """Recompute what follows from the parameters, after they have moved."""

    @abstractmethod
    def renew(self, dead: Int[Tensor, " m"], tokens: Float[Tensor, "m d"], own: slice = slice(None)) -> None:
        """Make each dead code that of one of the centred tokens, of which `own` are for these.

        Refreshing is left to the caller.
        """

    @abstractmethod
    def renewed_parameters(self, dead: Int[Tensor, " m"]) -> tuple[tuple[torch.nn.Parameter, Any], ...]:
        """Parameters that belong to these codes alone, each with the index of their entries."""

    @property
    def share(self) -> float:
        """What an active code counts for in the output: a part of the mean, or all of itself."""
        return 1.0

    def weights(self) -> Weights:
        """As they are: codes carry their norms."""
        return Weights(self.W_enc, self.b_enc, self.W_dec)

    def code_of(self, centred: Float[Tensor, "b d"]) -> Code:
        """The code of each token, all values one."""
        features = self.chosen(centred)
        n_rows, k = features.shape
        offsets = torch.arange(n_rows + 1, device=features.device) * k
        return Code(centred.new_ones(n_rows * k), features.flatten(), offsets, self.d_sae)

    @torch.no_grad()
    def select(self, pre: Preactivations) -> Selection:
        return Selection(self.code_of(pre.centred), 0)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return self.select(pre)

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        """Active codes of each token, of value one; where gradients are asked for, those of strengths (`slopes`).

        Raises: ShapeError if x has another width than the dictionary; NonFiniteError for NaN or infinity in x.
        """
        centred = self.finite_centred(x)
        with torch.no_grad():
            code = self.code_of(centred)
        if not torch.is_grad_enabled():
            return code
        none, slopes = code.features[:0], self.slopes().detach()
        values = encode_values(centred, self.b_dec, slopes, self.b_enc, code.values, Pattern.of(code), none)[0]
        return Code(values, code.features, code.row_offsets, code.d_sae)

    def rows(self, decoder: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
        """Codes in units of the output as it is, as far as they count."""
        return decoder * (self.share / self.input_scale)

    @torch.no_grad()
    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """What `settle` does; dead codes renewed if it is time."""
        self.settle(report)
        if self.config.revival == "resample" and due(self, report.n_tokens):
            resample_codes(self, report.batch, optimiser)

    @torch.no_grad()
    def settle(self, report: StepReport) -> None:
        """What follows from the parameters, and counters."""
        self.refresh()
        self.advance(report)

    @torch.no_grad()
    def residual(self, batch: ActivationBatch) -> Float[Tensor, "b d"]:
        """What the codes leave of the scaled activation."""
        centred = self.centred(batch.stacked(self.hooks_in))
        code = self.code_of(centred)
        rows = self.W_dec[code.features].view(centred.shape[0], -1, self.d_in)
        return centred - self.share * rows.sum(1)

    def restart(self, features: Int[Tensor, " m"], ranks: Ranks = ALONE) -> None:
        """Counters of codes that begin anew."""
        del ranks
        self.tokens_since_fired[features] = 0

    def folded(self) -> SAE:
        """The same function of raw activations with input_scale 1."""
        other = copy.deepcopy(self)
        with torch.no_grad():
            other.fold_scale(self.input_scale)
            other.b_dec.div_(self.input_scale)
            other.input_scale.fill_(1.0)
            other.refresh()
        return other

    @abstractmethod
    def fold_scale(self, scale: Float[Tensor, ""]) -> None:
        """Bring the parameters from scaled units to those of raw activations."""

    def with_unit_decoder(self) -> SAE:
        """Raises: ConfigError always."""
        raise ConfigError("got a codebook; its codes' norms are their strengths and cannot be moved into an encoder")
