"""What all sparse autoencoders share: parameters, decoding, the loss, the constraints and the counters.

Axes: b tokens, d width of the input, o width of the output, f features, n candidate entries, m chosen features.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.code import ActivationBatch, Code
from interp.distributed import ALONE, Ranks
from interp.errors import ConfigError, ShapeError
from interp.finite import check_finite
from interp.loop import StepReport
from saes.config import SAEConfig
from saes.entries import Activated, DenseEntries, Entries, SparseEntries
from saes.host_count import HostCount
from saes.known_dead import KnownDead
from saes.losses import aux_loss, loss_variant, prefix_weights
from saes.ops.dense import dense_pays, dense_prefix_losses
from saes.ops.encode import Preactivations
from saes.ops.select import Selection
from saes.ops.sparse import Pattern, constants_like, encode_values, gathered_dot, prefix_losses, sparse_decode
from saes.prefixes import prefixes_of_step
from saes.resampling import due, resample
from saes.step_report import Reconstruction as Reconstruction
from saes.step_report import step_report
from saes.wiring import Wiring

Select = Callable[[Preactivations], Selection]
CAUTION = 64
"""Steps until one is taken provisionally again, after one that had to be taken twice."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The maps as they act on scaled input: pre-activations are (x - centre) encoderᵀ + bias, decoder rows as used."""

    encoder: Float[Tensor, "f d"]
    bias: Float[Tensor, " f"]
    decoder: Float[Tensor, "f o"]


class SAE(nn.Module, ABC):
    """A sparse dictionary over activations at one or several hooks; a FeatureDictionary and a Trainable.

    Weights are [f, d] and [f, o]. Input is multiplied by `input_scale` before everything else and output divided by its
    scale; b_enc, b_dec and threshold are in scaled units until `folded`. State that changes while training lives in
    buffers. What is read and what is reconstructed is the wiring's to say; by default they are the same.
    """

    W_enc: nn.Parameter
    W_dec: nn.Parameter
    b_enc: nn.Parameter
    b_dec: nn.Parameter
    threshold: Tensor
    input_scale: Tensor
    tokens_since_fired: Tensor
    n_updates: Tensor
    n_fallbacks: Tensor
    biases: tuple[str, ...] = ()
    """Names of further parameters in units of activations."""
    sparse_parameters: tuple[str, ...] = ("W_enc", "W_dec", "b_enc")
    """Names of the parameters that have a row for each feature."""

    def __init__(
        self,
        config: SAEConfig,
        d_in: int,
        *,
        hooks_in: tuple[str, ...],
        hooks_out: tuple[str, ...] | None = None,
        d_out: int | None = None,
        token_budget: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.d_in = d_in
        self.d_out = d_in if d_out is None else d_out
        self._hooks_in = hooks_in
        self._hooks_out = hooks_in if hooks_out is None else hooks_out
        self.token_budget = token_budget
        # Without a budget nothing counts as dead: there is no run of which to take a share.
        self.dead_after_tokens = None if token_budget is None else max(1, round(config.dead_share * token_budget))
        f = config.d_sae
        self.W_enc = nn.Parameter(torch.zeros(f, d_in, device=device, dtype=dtype))
        self.W_dec = nn.Parameter(torch.zeros(f, self.d_out, device=device, dtype=dtype))
        self.b_enc = nn.Parameter(torch.zeros(f, device=device, dtype=dtype))
        self.b_dec = nn.Parameter(torch.zeros(self.d_out, device=device, dtype=dtype))
        self.register_buffer("threshold", torch.zeros((), device=device, dtype=dtype))
        self.register_buffer("input_scale", torch.ones((), device=device, dtype=dtype))
        self.register_buffer("tokens_since_fired", torch.zeros(f, device=device, dtype=torch.int64))
        self.register_buffer("n_updates", torch.zeros((), device=device, dtype=torch.int64))
        self.register_buffer("n_fallbacks", torch.zeros((), device=device, dtype=torch.int64))
        self._updates, self._dead, self._cautious = HostCount(), KnownDead(), 0
        self.wiring = Wiring()
        self.rows_kept = False
        """Whether the optimiser projects gradients and keeps decoder rows at norm one itself."""

    @property
    def hooks_in(self) -> tuple[str, ...]:
        return self._hooks_in

    @property
    def hooks_out(self) -> tuple[str, ...]:
        return self._hooks_out

    @property
    def d_sae(self) -> int:
        return self.config.d_sae

    @abstractmethod
    def select(self, pre: Preactivations) -> Selection:
        """Which entries may be active while training: the candidates, with their pre-activations."""

    @abstractmethod
    def select_at_inference(self, pre: Preactivations) -> Selection:
        """Which features are active once trained: a token's code must not depend on its batch."""

    def activate(self, entries: Entries, weights: Weights) -> Activated:
        """What the candidates' pre-activations become. The default takes them as they are."""
        del weights
        return Activated(entries.pre)

    def penalty_weight(self, n_tokens: int) -> Float[Tensor, ""] | float:
        """Weight of the penalty in this step, whose batch has `n_tokens`."""
        del n_tokens
        return 0.0

    def start(self, centred: Float[Tensor, "s d"], seed: int = 0) -> None:
        """Set what depends on the pre-activations of a first sample; weights are set already (nothing for most)."""

    def prefix_widths(self) -> tuple[int, ...]:
        """Prefixes of the dictionary that each reconstruct the output in this step."""
        return prefixes_of_step(self.config, self.updates_so_far)

    def weights(self) -> Weights:
        """The parameters, with free decoder norms moved into the encoder."""
        if self.config.decoder_norm == "unit":
            return Weights(self.W_enc, self.b_enc, self.W_dec)
        norm = torch.linalg.vector_norm(self.W_dec, dim=1)
        return Weights(self.W_enc * norm[:, None], self.b_enc * norm, self.W_dec / norm[:, None])

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        """Active features of each token, with gradients where they are asked for.

        Raises: ShapeError if x has another width than the dictionary; NonFiniteError for NaN or infinity in x.
        """
        centred, w = self.finite_centred(x), self.weights()
        code = self._selected(centred, w, self.select_at_inference).code
        values = code.values
        if torch.is_grad_enabled():
            none, centre = code.features[:0], self.wiring.centre(self)
            values = encode_values(centred, centre, w.encoder, w.bias, values, Pattern.of(code), none)[0]
        return Code(values / self.wiring.value_scale(self), code.features, code.row_offsets, self.d_sae)

    def centred(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Scaled input minus its centre, which gets its gradients elsewhere.

        Raises: ShapeError if x has another width than the dictionary.
        """
        self.check_input(x)
        return torch.addcmul(-self.wiring.centre(self).detach(), x.to(self.W_enc), self.input_scale)

    def finite_centred(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The same of what is encoded outside training, whose loss tells by itself: of NaN nothing would seem to fire.

        Raises: ShapeError as `centred` does; NonFiniteError for NaN or infinity.
        """
        return check_finite(", ".join(self.hooks_in), self.centred(x))

    def check_input(self, x: Float[Tensor, "..."]) -> None:
        """Raises: ShapeError if x has another width than the dictionary."""
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ShapeError(f"got shape {tuple(x.shape)}; expected (tokens, {self.d_in}); check the hook")

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b o"]:
        """Reconstruction, by the first `prefix` features only if given."""
        self.wiring.check_decodes()
        if prefix is not None:
            code = code.keep(code.features < prefix)
        bias = self.b_dec / self.wiring.output_scale(self)
        return sparse_decode(code.values, self.rows(self.weights().decoder), bias, Pattern.of(code))

    def rows(self, decoder: Float[Tensor, "m o"]) -> Float[Tensor, "m o"]:
        """Decoder rows in units of the output as it is."""
        scale = self.wiring.output_scale(self)
        # One scale for all columns is that of the values too.
        return decoder if scale.ndim == 0 else decoder * (self.wiring.value_scale(self) / scale)

    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m o"]:
        """Decoder rows: what a unit of each feature adds to the output."""
        return self.rows(self.weights().decoder[features])

    def losses(self, batch: ActivationBatch) -> StepReport:
        """Training loss of a batch. Pure.

        Units: squared error of scaled activations, summed over o, mean over tokens.
        """
        return self.report(batch)

    def provisional_losses(self, batch: ActivationBatch) -> StepReport:
        """As `losses`; where kernels select, as if selections of a usual size held, which the report then tells."""
        self._cautious = max(0, self._cautious - 1)
        return self.report(batch, provisional=self._cautious == 0)

    def refused(self) -> None:
        """For some steps the device is asked what may be taken for granted: where one is taken twice, more are."""
        self._cautious = CAUTION

    def report(self, batch: ActivationBatch, *, provisional: bool = False) -> StepReport:
        """What `losses` and `provisional_losses` give."""
        centred, widths = self.centred(batch.stacked(self.hooks_in)), self.prefix_widths()
        target = self.wiring.target(self, batch, centred)
        variant = loss_variant(self.config)
        term_weights = prefix_weights(variant, len(widths))
        result = self.reconstruct(centred, target, widths, term_weights, provisional=provisional)
        return step_report(self, result, batch, target, widths, variant)

    def reconstruct(
        self,
        centred: Float[Tensor, "b d"],
        target: Float[Tensor, "b o"],
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
        *,
        provisional: bool = False,
    ) -> Reconstruction:
        """Errors of all prefixes, weighed, and of the dead features."""
        w, dead = self.weights(), self.dead_features()
        selection = self._selected(centred, w, self.select, provisional=provisional)
        path = self._dense if dense_pays(selection.code, self.d_in) else self._sparse
        result = path(selection, centred, target, w, widths, term_weights, dead)
        return replace(result, holds=selection.holds)

    def _sparse(
        self,
        selection: Selection,
        centred: Tensor,
        target: Tensor,
        w: Weights,
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
        dead: Tensor,
    ) -> Reconstruction:
        code = selection.code
        pattern, centre = Pattern.of(code), self.wiring.centre(self)
        pre, enc, bias = encode_values(centred, centre, w.encoder, w.bias, code.values, pattern, dead)
        done = self.activate(SparseEntries(pre, pattern, code), w)
        sparse = prefix_losses(target, self.b_dec, done.values, w.decoder, pattern, widths, term_weights, dead)
        extra = None
        if done.gate is not None:
            # The gate alone must reconstruct too; that says nothing to the decoder.
            frozen = w.decoder.detach(), pattern, widths, term_weights, dead[:0]
            extra = prefix_losses(target.detach(), self.b_dec.detach(), done.gate, *frozen).loss
        fired = replace(code, values=done.values.detach())
        # Which entries are silent is not asked of the device, which would make the host wait amid the step.
        n_fired = (fired.values > 0).sum() if done.may_be_silent else None
        aux = self._aux(centred, sparse.residual, enc, bias, sparse.extra_rows)
        penalty = done.penalty_per_token(centred.shape[0])
        return Reconstruction(fired, selection.fallbacks, sparse.loss, sparse.errors, aux, penalty, extra, n_fired)

    def _dense(
        self,
        selection: Selection,
        centred: Tensor,
        target: Tensor,
        w: Weights,
        widths: tuple[int, ...],
        term_weights: tuple[float, ...],
        dead: Tensor,
    ) -> Reconstruction:
        """The same, where so much is active that products of whole matrices are faster."""
        centre = self.wiring.centre(self)
        pre = (centred - (centre - centre.detach())) @ w.encoder.t() + w.bias
        candidates = replace(selection.code, values=torch.ones_like(selection.code.values)).dense()
        done = self.activate(DenseEntries(pre, candidates), w)
        shifted = target - (self.b_dec - self.b_dec.detach())
        weighing = constants_like(term_weights, target)
        errors, residual = dense_prefix_losses(shifted, done.values * candidates, w.decoder, widths)
        extra = None
        if done.gate is not None:
            gated = done.gate * candidates
            extra = (dense_prefix_losses(target.detach(), gated, w.decoder.detach(), widths)[0] * weighing).sum()
        fired = Code.from_dense((done.values * candidates).detach())
        aux = self._aux(centred, residual.detach(), w.encoder[dead], w.bias[dead], w.decoder[dead])
        loss, penalty = (errors * weighing).sum(), done.penalty_per_token(centred.shape[0])
        return Reconstruction(fired, selection.fallbacks, loss, errors.detach(), aux, penalty, extra)

    @torch.no_grad()
    def residual(self, batch: ActivationBatch) -> Float[Tensor, "b o"]:
        """What the dictionary as it is trained leaves of the scaled output."""
        centred, w = self.centred(batch.stacked(self.hooks_in)), self.weights()
        code = self._selected(centred, w, self.select).code
        return self.wiring.target(self, batch, centred) - self.added_up(code, w)

    @torch.no_grad()
    def added_up(self, code: Code, weights: Weights) -> Float[Tensor, "b o"]:
        """The features' part of the scaled output, of a code as training selects it."""
        pattern = Pattern.of(code)
        values = self.activate(SparseEntries(code.values, pattern, code), weights).values
        return sparse_decode(values, weights.decoder, torch.zeros_like(self.b_dec), pattern)

    @torch.no_grad()
    def restart(self, features: Int[Tensor, " m"], ranks: Ranks = ALONE) -> None:
        """Biases and counters of features that get new directions; all ranks ask for it, each for its own."""
        del ranks
        self.b_enc[features] = 0
        self.tokens_since_fired[features] = 0

    def dead_features(self) -> Int[Tensor, " m"]:
        """Features that AuxK revives: those that have not fired for the configured share of the token budget."""
        if self.dead_after_tokens is None or self.config.aux_coefficient == 0 or self.config.revival != "aux":
            return self.tokens_since_fired[:0]
        return self._dead.of(self.tokens_since_fired, self.dead_after_tokens)

    def updates_so_far(self) -> int:
        """How many steps were counted, as the host knows it."""
        return self._updates.of(self.n_updates, int)

    def _aux(self, centred: Tensor, residual: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor | None:
        if decoder.shape[0] == 0:
            return None
        # The centre receives its gradient through the encoder bias: the batch need not be differentiated.
        centre = self.wiring.centre(self)
        shift = encoder @ (centre - centre.detach())
        k = self.config.k_aux or max(1, self.d_out // 2)
        return aux_loss(centred, residual, encoder, bias - shift, decoder, k=k)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take out of each decoder row's gradient what would only change its norm."""
        if self.config.decoder_norm == "unit" and self.W_dec.grad is not None and not self.rows_kept:
            rows = torch.arange(self.d_sae, device=self.W_dec.device)
            along = gathered_dot(self.W_dec.grad, rows, self.W_dec, rows)
            self.W_dec.grad.addcmul_(self.W_dec, along[:, None], value=-1)

    @torch.no_grad()
    def after_update(self, report: StepReport, optimiser: torch.optim.Optimizer) -> None:
        """What `settle` does; dead features resampled if it is time."""
        self.settle(report)
        if self.config.revival == "resample" and due(self, report.n_tokens):
            resample(self, report.batch, optimiser)

    @torch.no_grad()
    def settle(self, report: StepReport) -> None:
        """Unit decoder rows again; counters and inference threshold advanced."""
        if self.config.decoder_norm == "unit" and not self.rows_kept:
            self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True))
        self.advance(report)

    @torch.no_grad()
    def advance(self, report: StepReport) -> None:
        """Counters and inference threshold after a step."""
        if report.code is None:
            raise ConfigError("got a step report without a code; expected the report that `losses` gave for this step")
        with self._dead.grows(self.tokens_since_fired, report.n_tokens):
            self._count_silence(report.code, report.n_tokens)
        with self._updates.grows(self.n_updates, 1):
            self.n_updates.add_(1)
        # A number of the host's: to add it as such needs no copy for which both would wait.
        self.n_fallbacks.add_(int(report.terms["fallbacks"]))
        self.update_threshold(report.code)

    def _count_silence(self, code: Code, n_tokens: int) -> None:
        """Tokens since each feature fired, once it did as the code says."""
        # Entries that are zero did not fire; which these are is not asked of the device.
        fired = torch.where(code.values > 0, code.features, self.d_sae)
        seen = torch.zeros(self.d_sae + 1, dtype=torch.bool, device=fired.device).index_fill_(0, fired, True)
        self.tokens_since_fired.add_(n_tokens).masked_fill_(seen[:-1], 0)

    def update_threshold(self, code: Code) -> None:
        """Nothing to do where inference uses no threshold."""

    def folded(self) -> "SAE":
        """The same function of raw activations with input_scale 1 and unit decoder rows: what is saved for others."""
        return self.wiring.folded(self)

    def with_unit_decoder(self) -> "SAE":
        """A copy whose decoder norms are moved into the encoder."""
        other, w = copy.deepcopy(self), self.weights()
        other.config = self.config.model_copy(update={"decoder_norm": "unit"})
        with torch.no_grad():
            other.W_enc.copy_(w.encoder)
            other.W_dec.copy_(w.decoder)
            other.b_enc.copy_(w.bias)
        return other

    @torch.no_grad()
    def _selected(self, centred: Tensor, w: Weights, select: Select, *, provisional: bool = False) -> Selection:
        dtype = torch.bfloat16 if self.config.encoder_dtype == "bfloat16" else centred.dtype
        return select(Preactivations(centred, w.encoder, w.bias, dtype, provisional))
