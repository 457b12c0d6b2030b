"""What a file holds, whoever wrote it, in one convention, and the SAE that is built from it.

Axes: f features, d width of the input, o width of the output.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArtifactError, ConfigError
from saes.architectures import ARCHITECTURES
from saes.base import SAE
from saes.config import SAEConfig
from saes.facts import SAEFacts
from saes.gated import GatedSAE
from saes.group_max import GroupMaxSAE
from saes.jumprelu import JumpReLUSAE
from saes.normalised import Normalisation, NormalisedSAE
from saes.transcoder import Transcoder

Activation = Literal["relu", "topk", "group_max", "jumprelu", "gated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSAE:
    """a = activation(W_enc (x - b_dec) + b_enc), x̂ = W_decᵀ a + b_dec, of normalised x where it says so.

    `b_dec` is taken off the input only if `subtract_b_dec`. `config` is our own where the file has one; else it is made
    of k and prefixes. `hook_out` makes it a transcoder.
    """

    activation: Activation
    W_enc: Float[Tensor, "f d"]
    W_dec: Float[Tensor, "f o"]
    b_enc: Float[Tensor, " f"]
    b_dec: Float[Tensor, " o"]
    facts: SAEFacts
    subtract_b_dec: bool = True
    hook_out: str | None = None
    k: int | None = None
    threshold: Float[Tensor, " f"] | None = None
    r_mag: Float[Tensor, " f"] | None = None
    b_mag: Float[Tensor, " f"] | None = None
    W_skip: Float[Tensor, "o d"] | None = None
    normalisation: Normalisation | None = None
    config: SAEConfig | None = None

    def scaled(self, scale: float, scale_out: float | None = None) -> "StoredSAE":
        """The same SAE for raw activations, where it was trained on `scale` times them; feature values stay."""
        out = scale if scale_out is None else scale_out
        skip = None if self.W_skip is None else self.W_skip * (scale / out)
        return replace(self, W_enc=self.W_enc * scale, W_dec=self.W_dec / out, b_dec=self.b_dec / out, W_skip=skip)

    def with_feature_scale(self, factor: Float[Tensor, " f"] | float) -> "StoredSAE":
        """The same function of x with feature values `factor` times what they were."""
        f = torch.as_tensor(factor, dtype=self.W_enc.dtype).expand(self.W_enc.shape[0])

        def times(values: Tensor | None) -> Tensor | None:
            return None if values is None else values * f

        return replace(
            self,
            W_enc=self.W_enc * f[:, None],
            W_dec=self.W_dec / f[:, None],
            b_enc=self.b_enc * f,
            b_mag=times(self.b_mag),
            threshold=times(self.threshold),
        )

    def with_unit_decoder(self) -> "StoredSAE":
        """The same function of x with decoder rows of norm one."""
        return self.with_feature_scale(torch.linalg.vector_norm(self.W_dec, dim=1).clamp(min=1e-8))

    def build(self, device: torch.device | str = "cpu") -> SAE:
        """The SAE itself, for inference.

        Raises: ArtifactError if what the file says does not fit together.
        """
        sae = self._empty(self.config or self._made_config(), device)
        tensors = self._tensors()
        if sae.threshold.ndim == 0:
            tensors["threshold"] = _the_one(tensors["threshold"])
        with torch.no_grad():
            for name, tensor in tensors.items():
                getattr(sae, name).copy_(tensor)
        return (sae if self.normalisation is None else NormalisedSAE(sae, self.normalisation)).eval()

    def _empty(self, config: SAEConfig, device: torch.device | str) -> SAE:
        d_in, d_out = self.W_enc.shape[1], self.W_dec.shape[1]
        where: dict[str, Any] = {"hooks_in": (self.facts.hook,), "device": device, "dtype": self.W_enc.dtype}
        if self.hook_out is not None:
            where["hooks_out"] = (self.hook_out,)
            return Transcoder(config, d_in, d_out, skip=self.W_skip is not None, **where)
        if d_in != d_out:
            raise ArtifactError(f"got input width {d_in} and output width {d_out}; expected a transcoder's two hooks")
        named: dict[Activation, type[SAE]] = {"gated": GatedSAE, "group_max": GroupMaxSAE}
        if self.activation in named:
            return named[self.activation](config, d_in, **where)
        if self.activation == "jumprelu" and config.architecture not in ("batch_topk", "matryoshka"):
            return JumpReLUSAE(config, d_in, **where)
        return ARCHITECTURES[config.architecture](config, d_in, **where)

    def _tensors(self) -> dict[str, Tensor]:
        """By the parameter or buffer that takes them. Our classes, but for transcoders, take b_dec off the input."""
        b_enc, b_mag = self.b_enc, self.b_mag
        if self.hook_out is None and not self.subtract_b_dec:
            shift = (self.W_enc.double() @ self.b_dec.double()).to(b_enc)
            b_enc = b_enc + shift
            b_mag = None if b_mag is None or self.r_mag is None else b_mag + self.r_mag.exp() * shift
        threshold = torch.zeros_like(b_enc) if self.threshold is None else self.threshold
        tensors = {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": b_enc, "b_dec": self.b_dec}
        more = {"threshold": threshold, "r_mag": self.r_mag, "b_mag": b_mag, "W_skip": self.W_skip}
        return tensors | {name: tensor for name, tensor in more.items() if tensor is not None}

    def _made_config(self) -> SAEConfig:
        """Our config for an SAE from elsewhere; what is not known of it keeps its default."""
        d_sae = self.W_enc.shape[0]
        known: dict[str, Any] = {"architecture": "standard", "d_sae": d_sae, "n_prefixes": 1, "k": min(32, d_sae)}
        if self.activation in ("topk", "group_max"):
            known |= {"architecture": "topk", "k": self.k}
        elif self.facts.architecture in ("batch_topk", "matryoshka") and self.k is not None:
            known |= {"architecture": self.facts.architecture, "k": self.k}
            if self.facts.architecture == "matryoshka":
                known["prefixes"] = list(self.facts.prefixes)
        try:
            return SAEConfig.parse(known, source="the SAE's config")
        except ConfigError as error:
            raise ArtifactError(str(error)) from None


def _the_one(threshold: Float[Tensor, " f"]) -> Float[Tensor, ""]:
    if bool((threshold != threshold[0]).any()):
        raise ArtifactError("threshold: got different values; expected one for all features of a batch_topk SAE")
    return threshold[0]
