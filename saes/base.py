"""What all sparse autoencoders share: parameters, decoding, the loss, the constraints and the counters.

Axes: b tokens, d width of the activations, f features, n active entries, m chosen features.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.code import ActivationBatch, Code
from interp.errors import ConfigError, ShapeError
from interp.loop import StepReport
from saes.config import SAEConfig
from saes.losses import LossVariant, aux_loss, aux_weight, prefix_weights
from saes.ops.dense import DENSE_L0, dense_encode, dense_prefix_losses
from saes.ops.encode import Preactivations
from saes.ops.select import Selection
from saes.ops.sparse import Pattern, encode_values, gathered_dot, prefix_losses, sparse_decode


@dataclass(frozen=True, slots=True)
class Weights:
    """The maps as they act on scaled input: activations are relu((x - b_dec) encoderᵀ + bias), decoder rows as used."""

    encoder: Float[Tensor, "f d"]
    bias: Float[Tensor, " f"]
    decoder: Float[Tensor, "f d"]


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What one batch gave: weighed prefix errors, each error apart (detached), the dead features' loss.

    Shapes: errors (g + 1,), of the bias alone, then of each prefix.
    Units: squared error summed over d, mean over tokens, of scaled activations.
    """

    selection: Selection
    loss: Float[Tensor, ""]
    errors: Float[Tensor, " g_plus_1"]
    aux: Float[Tensor, ""] | None


class SAE(nn.Module, ABC):
    """A sparse autoencoder over activations at one or several hooks; a FeatureDictionary and a Trainable.

    Weights are [f, d]. Input is multiplied by `input_scale` before everything else and output divided by it; b_enc,
    b_dec and threshold are in scaled units until `folded`. State that changes while training lives in buffers.
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

    def __init__(
        self,
        config: SAEConfig,
        d_in: int,
        *,
        hooks_in: tuple[str, ...],
        hooks_out: tuple[str, ...] | None = None,
        token_budget: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.d_in = d_in
        self._hooks_in = hooks_in
        self._hooks_out = hooks_in if hooks_out is None else hooks_out
        # Without a budget nothing counts as dead: there is no run of which to take a share.
        self.dead_after_tokens = None if token_budget is None else max(1, round(config.dead_share * token_budget))
        f = config.d_sae
        self.W_enc = nn.Parameter(torch.zeros(f, d_in, device=device, dtype=dtype))
        self.W_dec = nn.Parameter(torch.zeros(f, d_in, device=device, dtype=dtype))
        self.b_enc = nn.Parameter(torch.zeros(f, device=device, dtype=dtype))
        self.b_dec = nn.Parameter(torch.zeros(d_in, device=device, dtype=dtype))
        self.register_buffer("threshold", torch.zeros((), device=device, dtype=dtype))
        self.register_buffer("input_scale", torch.ones((), device=device, dtype=dtype))
        self.register_buffer("tokens_since_fired", torch.zeros(f, device=device, dtype=torch.int64))
        self.register_buffer("n_updates", torch.zeros((), device=device, dtype=torch.int64))
        self.register_buffer("n_fallbacks", torch.zeros((), device=device, dtype=torch.int64))

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
        """Which features are active while training."""

    @abstractmethod
    def select_at_inference(self, pre: Preactivations) -> Selection:
        """Which features are active once trained: a token's code must not depend on its batch."""

    def prefix_widths(self) -> tuple[int, ...]:
        """Prefixes of the dictionary that each reconstruct the input in this step."""
        return (self.d_sae,)

    def weights(self) -> Weights:
        """The parameters, with free decoder norms moved into the encoder."""
        if self.config.decoder_norm == "unit":
            return Weights(self.W_enc, self.b_enc, self.W_dec)
        norm = torch.linalg.vector_norm(self.W_dec, dim=1)
        return Weights(self.W_enc * norm[:, None], self.b_enc * norm, self.W_dec / norm[:, None])

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        """Active features of each token, with gradients where they are asked for.

        Raises: ShapeError if x has another width than the dictionary.
        """
        centred, w = self.centred(x), self.weights()
        code = self._selected(centred, w, self.select_at_inference).code
        values = code.values
        if torch.is_grad_enabled():
            none = code.features[:0]
            values = encode_values(centred, self.b_dec, w.encoder, w.bias, values, Pattern.of(code), none)[0]
        return Code(values / self.input_scale, code.features, code.row_offsets, self.d_sae)

    def centred(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Scaled input minus b_dec, which gets its gradients elsewhere.

        Raises: ShapeError if x has another width than the dictionary.
        """
        self.check_input(x)
        return torch.addcmul(-self.b_dec.detach(), x.to(self.W_enc), self.input_scale)

    def check_input(self, x: Float[Tensor, "..."]) -> None:
        """Raises: ShapeError if x has another width than the dictionary."""
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ShapeError(f"got shape {tuple(x.shape)}; expected (tokens, {self.d_in}); check the hook")

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b d"]:
        """Reconstruction, by the first `prefix` features only if given."""
        if prefix is not None:
            code = code.keep(code.features < prefix)
        return sparse_decode(code.values, self.weights().decoder, self.b_dec / self.input_scale, Pattern.of(code))

    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """Decoder rows: what a unit of each feature adds to the output."""
        return self.weights().decoder[features]

    def losses(self, batch: ActivationBatch) -> StepReport:
        """Training loss of a batch. Pure.

        Units: squared error of scaled activations, summed over d, mean over tokens.
        """
        centred, widths = self.centred(batch.stacked(self.hooks_in)), self.prefix_widths()
        # The variants say how prefixes are weighed: without prefixes there is nothing to choose.
        variant: LossVariant = self.config.loss_variant if self.config.architecture == "matryoshka" else "sum"
        result = self.reconstruct(centred, widths, prefix_weights(variant, len(widths)))
        loss, terms = result.loss, {"mse": result.errors[-1]}
        if len(widths) > 1 and self.config.prefix_sampling == "fixed":
            terms |= {f"loss_prefix_{width}": error for width, error in zip(widths, result.errors[1:], strict=True)}
        if result.aux is not None:
            loss = loss + aux_weight(variant, len(widths), self.config.aux_coefficient) * result.aux
            terms["aux"] = result.aux.detach()
        return self.report(loss, terms, selection=result.selection, centred=centred)

    def report(self, loss: Tensor, terms: dict[str, Tensor], *, selection: Selection, centred: Tensor) -> StepReport:
        """The step's report with the terms that all architectures share.

        Explained variance is about the batch's mean, near enough for a curve; saes.evaluation has the real one.
        """
        n_tokens = centred.shape[0]
        variance = (centred.detach() - centred.detach().mean(0)).square().sum() / n_tokens
        terms["explained_variance"] = 1 - terms["mse"] / variance
        l0 = selection.code.values.shape[0] / max(n_tokens, 1)
        counts = {"l0": torch.tensor(l0), "fallbacks": torch.tensor(selection.fallbacks)}
        return StepReport(
            loss=loss, terms={"loss": loss.detach(), **terms, **counts}, n_tokens=n_tokens, code=selection.code
        )

    def reconstruct(
        self, centred: Float[Tensor, "b d"], widths: tuple[int, ...], term_weights: tuple[float, ...]
    ) -> Reconstruction:
        """Errors of all prefixes, weighed, and of the dead features."""
        w, dead = self.weights(), self.dead_features()
        selection = self._selected(centred, w, self.select)
        code = selection.code
        if code.values.shape[0] > DENSE_L0 * centred.shape[0]:
            shifted = centred - (self.b_dec - self.b_dec.detach())
            acts = dense_encode(shifted, w.encoder, w.bias) * (code.dense() > 0)
            errors, residual = dense_prefix_losses(shifted, acts, w.decoder, widths)
            loss = (errors * errors.new_tensor(term_weights)).sum()
            rows = w.encoder[dead], w.bias[dead], w.decoder[dead]
            return Reconstruction(selection, loss, errors.detach(), self._aux(centred, residual.detach(), *rows))
        pattern = Pattern.of(code)
        values, enc, bias = encode_values(centred, self.b_dec, w.encoder, w.bias, code.values, pattern, dead)
        sparse = prefix_losses(centred, self.b_dec, values, w.decoder, pattern, widths, term_weights, dead)
        aux = self._aux(centred, sparse.residual, enc, bias, sparse.extra_rows)
        return Reconstruction(selection, sparse.loss, sparse.errors, aux)

    def dead_features(self) -> Int[Tensor, " m"]:
        """Features that have not fired for the configured share of the token budget."""
        if self.dead_after_tokens is None or self.config.aux_coefficient == 0:
            return self.tokens_since_fired[:0]
        return (self.tokens_since_fired >= self.dead_after_tokens).nonzero()[:, 0]

    def _aux(self, centred: Tensor, residual: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor | None:
        if decoder.shape[0] == 0:
            return None
        # b_dec receives its gradient through the encoder bias: the batch need not be differentiated.
        shift = encoder @ (self.b_dec - self.b_dec.detach())
        k = self.config.k_aux or max(1, self.d_in // 2)
        return aux_loss(centred, residual, encoder, bias - shift, decoder, k=k)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take out of each decoder row's gradient what would only change its norm."""
        if self.config.decoder_norm == "unit" and self.W_dec.grad is not None:
            rows = torch.arange(self.d_sae, device=self.W_dec.device)
            along = gathered_dot(self.W_dec.grad, rows, self.W_dec, rows)
            self.W_dec.grad.addcmul_(self.W_dec, along[:, None], value=-1)

    @torch.no_grad()
    def after_update(self, report: StepReport) -> None:
        """Unit decoder rows again; counters and inference threshold advanced."""
        if self.config.decoder_norm == "unit":
            self.W_dec.div_(torch.linalg.vector_norm(self.W_dec, dim=1, keepdim=True))
        self.advance(report)

    @torch.no_grad()
    def advance(self, report: StepReport) -> None:
        """Counters and inference threshold after a step."""
        if report.code is None:
            raise ConfigError("got a step report without a code; expected the report that `losses` gave for this step")
        self.tokens_since_fired.add_(report.n_tokens)
        self.tokens_since_fired.masked_fill_(torch.bincount(report.code.features, minlength=self.d_sae) > 0, 0)
        self.n_updates.add_(1)
        self.n_fallbacks.add_(report.terms["fallbacks"].to(self.n_fallbacks.device))
        self.update_threshold(report.code)

    def update_threshold(self, code: Code) -> None:
        """Nothing to do where inference uses no threshold."""

    def folded(self) -> "SAE":
        """The same function of raw activations with input_scale 1 and unit decoder rows: what is saved for others."""
        other, w = copy.deepcopy(self), self.weights()
        other.config = self.config.model_copy(update={"decoder_norm": "unit"})
        with torch.no_grad():
            other.W_enc.copy_(w.encoder)
            other.W_dec.copy_(w.decoder)
            # Scaling the input of a ReLU layer scales its output: only what is not a product with x must follow.
            other.b_enc.copy_(w.bias / self.input_scale)
            other.b_dec.copy_(self.b_dec / self.input_scale)
            other.threshold.copy_(self.threshold / self.input_scale)
            other.input_scale.fill_(1.0)
        return other

    @torch.no_grad()
    def _selected(self, centred: Tensor, w: Weights, select: Callable[[Preactivations], Selection]) -> Selection:
        dtype = torch.bfloat16 if self.config.encoder_dtype == "bfloat16" else centred.dtype
        return select(Preactivations(centred, w.encoder, w.bias, dtype))
