"""One dictionary over several ranks: each holds a range of features, and all together take the step of one process.

A rank encodes and selects among its own features, learns which of them win, decodes them, and adds its part to the
reconstruction. Every rank then has the same residual, from which the gradients of its own rows follow without another
word; b_dec alone, which all of them hold, has its gradient added up.
Axes: b tokens, d width of the input, o width of the output, f features of this rank, n active entries, g prefixes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import ActivationBatch, Code
from interp.distributed import Ranks
from interp.errors import ConfigError
from interp.loop import StepReport
from saes.base import SAE, Weights
from saes.batch_topk import BatchSelectedSAE, running_threshold
from saes.config import SAEConfig
from saes.entries import Activated, DenseEntries, SparseEntries
from saes.losses import loss_variant, prefix_weights
from saes.ops.dense import dense_pays
from saes.ops.encode import Preactivations
from saes.ops.merge import merge_per_batch, merge_per_token
from saes.ops.sharded import dense_group_sums, group_sums, own_widths, summed, summed_aux_loss, summed_errors
from saes.ops.sparse import Pattern, encode_values
from saes.prefixes import prefixes_of_step
from saes.resampling import due, resample
from saes.step_report import Reconstruction, step_report


@dataclass(frozen=True, slots=True)
class _Own:
    """What a rank's features make of a batch: their sums, what fired, how many entries of it did where some are zero,
    the gate's own sums, and the rows of those that are dead."""

    sums: Float[Tensor, "b g o"]
    fired: Code
    n_fired: Int[Tensor, ""] | None
    gate: Float[Tensor, "b g o"] | None
    penalty: Float[Tensor, ""] | None
    encoder: Float[Tensor, "m d"]
    bias: Float[Tensor, " m"]
    decoder: Float[Tensor, "m o"]


class ShardedSAE:
    """A rank's part of a dictionary, as a Trainable: `own` is an SAE of its features alone, `config` that of the whole.

    Its state is that of `own`; saes.sharded_state puts together and takes apart what the whole has.
    """

    def __init__(self, own: SAE, config: SAEConfig, ranks: Ranks) -> None:
        self.own, self.config, self.ranks = own, config, ranks
        self.first, _ = ranks.span(config.d_sae)

    def losses(self, batch: ActivationBatch) -> StepReport:
        """Training loss of a batch, the same at every rank. The report's code has this rank's features alone."""
        own = self.own
        centred = own.centred(batch.stacked(own.hooks_in))
        widths, variant = prefixes_of_step(self.config, own.updates_so_far), loss_variant(self.config)
        target = own.wiring.target(own, batch, centred)
        result = self.reconstruct(centred, target, widths, prefix_weights(variant, len(widths)))
        report = step_report(own, result, batch, target, widths, variant)
        fired = result.code.values.shape[0] if result.n_fired is None else int(result.n_fired)
        n_fired, fallbacks = self.ranks.total(fired, result.fallbacks)
        counts = {"l0": torch.tensor(n_fired / max(len(batch), 1)), "fallbacks": torch.tensor(int(fallbacks))}
        return replace(report, terms={**report.terms, **counts}, code=self._named(result.code))

    def reconstruct(
        self,
        centred: Float[Tensor, "b d"],
        target: Float[Tensor, "b o"],
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
    ) -> Reconstruction:
        """Errors of all prefixes of the whole dictionary, weighed, and of its dead features."""
        own, w = self.own, self.own.weights()
        code, fallbacks = self._selected(centred, w)
        # Each rank may choose for itself: what is exchanged has the same shape.
        path = self._dense if dense_pays(code, own.d_in) else self._sparse
        part = path(code, centred, w, own_widths(widths, self.first, own.d_sae))
        # One rank alone adds to the gradient of b_dec what all of them know.
        bias = own.b_dec if self.ranks.first else own.b_dec.detach()
        done = summed_errors(target, bias, part.sums, term_weights, self.ranks)
        extra = None
        if part.gate is not None:
            # The gate alone must reconstruct too; that says nothing to the decoder.
            extra = summed_errors(target.detach(), bias.detach(), part.gate, term_weights, self.ranks).loss
        penalty = None if part.penalty is None else summed(part.penalty, self.ranks)
        aux = self._aux(centred, done.residual, part)
        return Reconstruction(part.fired, fallbacks, done.loss, done.errors, aux, penalty, extra, part.n_fired)

    @torch.no_grad()
    def _selected(self, centred: Tensor, w: Weights) -> tuple[Code, int]:
        """This rank's candidates, less those that lose against another's; and how many more passes it took."""
        own = self.own
        dtype = torch.bfloat16 if self.config.encoder_dtype == "bfloat16" else centred.dtype
        selection = own.select(Preactivations(centred, w.encoder, w.bias, dtype))
        code = selection.code
        if self.config.architecture == "topk":
            code = merge_per_token(code, self.config.k, self.ranks)
        elif isinstance(own, BatchSelectedSAE):
            code = merge_per_batch(code, self.config.k, self.ranks)
        return code, selection.fallbacks

    def _sparse(self, code: Code, centred: Tensor, w: Weights, widths: tuple[int, ...]) -> _Own:
        own, dead, pattern = self.own, self.own.dead_features(), Pattern.of(code)
        centre = own.wiring.centre(own)
        pre, encoder, bias = encode_values(centred, centre, w.encoder, w.bias, code.values, pattern, dead)
        done = own.activate(SparseEntries(pre, pattern, code), w)
        sums, decoder = group_sums(done.values, w.decoder, pattern, widths, dead)
        frozen = w.decoder.detach(), pattern, widths, dead[:0]
        gate = None if done.gate is None else group_sums(done.gate, *frozen)[0]
        return self._part(sums, replace(code, values=done.values.detach()), gate, done, (encoder, bias, decoder))

    def _dense(self, code: Code, centred: Tensor, w: Weights, widths: tuple[int, ...]) -> _Own:
        own, dead = self.own, self.own.dead_features()
        centre = own.wiring.centre(own)
        pre = (centred - (centre - centre.detach())) @ w.encoder.t() + w.bias
        candidates = replace(code, values=torch.ones_like(code.values)).dense()
        done = own.activate(DenseEntries(pre, candidates), w)
        values = done.values * candidates
        sums = dense_group_sums(values, w.decoder, widths)
        gate = None if done.gate is None else dense_group_sums(done.gate * candidates, w.decoder.detach(), widths)
        rows = w.encoder[dead], w.bias[dead], w.decoder[dead]
        return self._part(sums, Code.from_dense(values.detach()), gate, done, rows)

    def _part(
        self, sums: Tensor, fired: Code, gate: Tensor | None, done: Activated, rows: tuple[Tensor, Tensor, Tensor]
    ) -> _Own:
        n_fired = (fired.values > 0).sum() if done.may_be_silent else None
        return _Own(sums, fired, n_fired, gate, done.penalty_per_token(sums.shape[0]), *rows)

    def _aux(self, centred: Tensor, residual: Tensor, part: _Own) -> Tensor | None:
        own = self.own
        (n_dead,) = self.ranks.total(part.decoder.shape[0])
        if n_dead == 0:
            return None
        centre = own.wiring.centre(own)
        bias = part.bias - part.encoder @ (centre - centre.detach())
        k = self.config.k_aux or max(1, own.d_out // 2)
        rows = part.encoder, bias, part.decoder
        return summed_aux_loss(centred, residual, *rows, k=k, n_dead=int(n_dead), ranks=self.ranks)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """As the whole does, once what each rank knows of b_dec's gradient is added up."""
        own = self.own
        if own.b_dec.requires_grad:
            if own.b_dec.grad is None:
                own.b_dec.grad = torch.zeros_like(own.b_dec)
            self.ranks.add(own.b_dec.grad)
        own.project_gradients()

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """Norm of the gradient of the whole."""
        rows = set(self.own.sparse_parameters)
        squares = {True: self.own.b_dec.new_zeros(()), False: self.own.b_dec.new_zeros(())}
        for name, parameter in self.own.named_parameters():
            if parameter.grad is not None:
                squares[name in rows] += torch.linalg.vector_norm(parameter.grad).square()
        return float((self.ranks.add(squares[True]) + squares[False]).sqrt())

    @torch.no_grad()
    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """As the whole does: a threshold at inference follows the smallest activation of all ranks, and the dead of all
        draw their tokens together."""
        own = self.own
        if report.code is None:
            raise ConfigError("got a step report without a code; expected the one that `losses` gave for this step")
        code = replace(report.code, features=report.code.features - self.first, d_sae=own.d_sae)
        before = own.threshold.clone()
        own.settle(replace(report, code=code))
        if isinstance(own, BatchSelectedSAE):
            least = self.ranks.least(torch.cat([code.values, code.values.new_full((1,), torch.inf)]).amin())
            one = torch.arange(2, device=least.device)
            smallest = Code(least.reshape(1), one[:1], one, own.d_sae)
            moved = running_threshold(before, smallest, own.n_updates, self.config.threshold_rate)
            # Where nothing fired it stays as it was.
            own.threshold.copy_(torch.where(least.isfinite(), moved, before))
        if self.config.revival == "resample" and due(own, report.n_tokens):
            self._resample(report, optimiser)

    def _resample(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        resample(self.own, report.batch, optimiser, ranks=self.ranks, residual_of=self.residual)

    @torch.no_grad()
    def residual(self, batch: ActivationBatch) -> Float[Tensor, "b o"]:
        """What the whole dictionary as it is trained leaves of the scaled output."""
        own = self.own
        centred, w = own.centred(batch.stacked(own.hooks_in)), own.weights()
        code, _ = self._selected(centred, w)
        return own.wiring.target(own, batch, centred) - self.ranks.add(own.added_up(code, w))

    def _named(self, code: Code) -> Code:
        """A rank's code with the features' numbers in the whole dictionary."""
        return replace(code, features=code.features + self.first, d_sae=self.config.d_sae)

    def state_dict(self) -> dict[str, Tensor]:
        """The part's own: names and all but the number of rows are those of the whole."""
        return self.own.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.own.load_state_dict(state_dict)
