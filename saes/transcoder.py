"""Transcoders: features of one hook that say what stands at another.

Axes: b tokens, d width of the input, o width of the output, f features.
"""

import copy
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.code import ActivationBatch, Code
from interp.errors import ConfigError, DataError
from saes.anchored_code import AnchoredCode, anchored
from saes.config import SAEConfig
from saes.inference_only import InferenceOnlySAE
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, select_above_each, select_per_token
from saes.ops.sparse import Pattern, sparse_decode
from saes.wiring import Wiring, centre_and_scale, unit_rows

if TYPE_CHECKING:
    from saes.base import SAE

RIDGE = 1e-3
"""Share of the mean variance that is added to each direction of the input where its linear map is fitted."""


@final
class Transcoder(InferenceOnlySAE):
    """A trained transcoder, for inference.

    y ≈ W_decᵀ a + b_dec (+ W_skip x) with a = activation(W_enc x + b_enc); b_dec is not taken off the input.

    The activation is a JumpReLU with a threshold per feature (zero: a ReLU), or TopK where the config says so. Weights
    are [f, d] and [f, o]; W_skip is [o, d].
    Source: Dunefsky et al. 2024 (arXiv 2406.11944); skip transcoders: Paulo et al. 2025 (arXiv 2501.18823).
    """

    W_skip: nn.Parameter | None

    def __init__(self, config: SAEConfig, d_in: int, d_out: int, *, skip: bool = False, **where: Any) -> None:
        super().__init__(config, d_in, d_out=d_out, **where)
        self.W_skip = nn.Parameter(self.W_enc.new_zeros(d_out, d_in)) if skip else None
        self.threshold = self.b_enc.new_zeros(config.d_sae, requires_grad=False)

    def centred(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The input as it is.

        Raises: ShapeError if x has another width than the encoder.
        """
        self.check_input(x)
        return x.to(self.W_enc)

    def encode(self, x: Float[Tensor, "b d"]) -> Code:
        x = self.finite_centred(x)
        with torch.no_grad():
            code = self.select_at_inference(Preactivations(x, self.W_enc, self.b_enc)).code
        values = code.values
        if torch.is_grad_enabled():
            values = (x @ self.W_enc.t() + self.b_enc)[code.rows(), code.features]
        if self.W_skip is None:
            return Code(values, code.features, code.row_offsets, self.d_sae)
        one = torch.ones_like(x[:, :1])
        return AnchoredCode(values, code.features, code.row_offsets, self.d_sae, one, x @ self.W_skip.t())

    def decode(self, code: Code, *, prefix: int | None = None) -> Float[Tensor, "b o"]:
        part = code if prefix is None else code.keep(code.features < prefix)
        decoded = sparse_decode(part.values, self.W_dec, self.b_dec, Pattern.of(part))
        return decoded if self.W_skip is None else anchored(decoded, code)

    def directions(self, features: Int[Tensor, " m"]) -> Float[Tensor, "m o"]:
        """Decoder rows: what a unit of each feature adds to the output."""
        return self.W_dec[features]

    def reading(self, hook: str, *, gain: Float[Tensor, " d"]) -> "Transcoder":
        """The same function of what stands at another hook, which is `gain` times what this one reads."""
        other = copy.deepcopy(self)
        other._hooks_in = (hook,)
        with torch.no_grad():
            other.W_enc.div_(gain)
            if other.W_skip is not None:
                other.W_skip.div_(gain)
        return other

    def select_at_inference(self, pre: Preactivations) -> Selection:
        if self.config.architecture == "topk":
            return select_per_token(pre, self.config.k)
        return select_above_each(pre, self.threshold)


class Transcoding(Wiring):
    """The wiring of a transcoder in training: it reads one hook about a fixed centre and reconstructs another.

    With a skip connection a linear map of the centred input stands beside the features; it starts at zero.
    Source: Dunefsky et al. 2024 (arXiv 2406.11944); Paulo et al. 2025 (arXiv 2501.18823).
    """

    b_in: Tensor
    scale_out: Tensor
    W_skip: nn.Parameter | None

    def __init__(self, sae: "SAE", *, skip: bool) -> None:
        super().__init__()
        like = sae.b_dec
        self.register_buffer("b_in", like.new_zeros(sae.d_in, requires_grad=False))
        self.register_buffer("scale_out", like.new_ones((), requires_grad=False))
        self.W_skip = nn.Parameter(like.new_zeros(sae.d_out, sae.d_in)) if skip else None

    def centre(self, sae: "SAE") -> Float[Tensor, " d"]:
        del sae
        return self.b_in

    def target(self, sae: "SAE", batch: ActivationBatch, centred: Float[Tensor, "b d"]) -> Float[Tensor, "b o"]:
        y = torch.addcmul(-sae.b_dec.detach(), batch.stacked(sae.hooks_out).to(sae.b_dec), self.scale_out)
        return y if self.W_skip is None else y - centred @ self.W_skip.t()

    def written(self, sae: "SAE", batch: ActivationBatch, target: Float[Tensor, "b o"]) -> Float[Tensor, "b o"]:
        # What the skip connection says is explained too.
        return target if self.W_skip is None else batch.stacked(sae.hooks_out).to(sae.b_dec) * self.scale_out

    def output_scale(self, sae: "SAE") -> Float[Tensor, ""]:
        del sae
        return self.scale_out

    def value_scale(self, sae: "SAE") -> Float[Tensor, ""]:
        del sae
        return self.scale_out

    @torch.no_grad()
    def folded(self, sae: "SAE") -> "SAE":
        """The same function of raw activations as a Transcoder."""
        unit, scale = sae.with_unit_decoder(), sae.input_scale / self.scale_out
        where: dict[str, Any] = {"hooks_in": sae.hooks_in, "hooks_out": sae.hooks_out}
        skip = self.W_skip is not None
        other = Transcoder(
            unit.config, sae.d_in, sae.d_out, skip=skip, device=sae.W_enc.device, dtype=sae.W_enc.dtype, **where
        )
        other.W_enc.copy_(unit.W_enc * scale)
        other.b_enc.copy_((unit.b_enc - unit.W_enc @ self.b_in) / self.scale_out)
        other.threshold.copy_(unit.threshold / self.scale_out)
        other.W_dec.copy_(unit.W_dec)
        other.b_dec.copy_(unit.b_dec / self.scale_out)
        if self.W_skip is not None and other.W_skip is not None:
            other.W_skip.copy_(self.W_skip * scale)
            other.b_dec.sub_(self.W_skip @ self.b_in / self.scale_out)
        return other

    @torch.no_grad()
    def start(
        self, sae: "SAE", sample: Float[Tensor, "s d"], output: Float[Tensor, "s o"] | None, *, normalise: bool
    ) -> None:
        """Scales and centres of input and output.

        Raises: DataError if there is no sample of the output.
        """
        if output is None:
            raise DataError("got no sample of a transcoder's output; expected one of the same tokens as the input's")
        centre, scale = centre_and_scale(sample, normalise=normalise)
        sae.input_scale.fill_(scale)
        self.b_in.copy_(centre * scale)
        centre, scale = centre_and_scale(output, normalise=normalise)
        self.scale_out.fill_(scale)
        sae.b_dec.copy_(centre * scale)

    @torch.no_grad()
    def tie(
        self, sae: "SAE", generator: torch.Generator, sample: Float[Tensor, "s d"], output: Float[Tensor, "s o"] | None
    ) -> None:
        """Each decoder row is what the best linear map makes of its encoder row, which is a random direction.

        A decoder that starts apart from the encoder has first to find out what its features write.
        """
        assert output is not None
        x = (sample * sae.input_scale - self.b_in).double()
        y = (output * self.scale_out - sae.b_dec).double()
        gram = x.t() @ x
        gram.diagonal().add_(RIDGE * gram.diagonal().mean())
        linear = torch.linalg.solve(gram, x.t() @ y)
        read = unit_rows(sae.d_sae, sae.d_in, generator).to(x)
        sae.W_enc.copy_(read * sae.config.encoder_scale)
        sae.W_dec.copy_(nn.functional.normalize(read @ linear, dim=1))

    def check_decodes(self) -> None:
        """Raises: ConfigError for a skip connection, which reads the input anew."""
        if self.W_skip is not None:
            raise ConfigError("got a skip transcoder in training, whose code alone does not decode; use its `folded()`")
