"""What kind of sparse autoencoder to train."""

from typing import Literal

from pydantic import Field, model_validator

from interp.config import Config, Seed

DEFAULT_PREFIXES = 5


class SAEConfig(Config):
    """Architecture, size and loss of a sparse autoencoder."""

    architecture: Literal["topk", "batch_topk", "matryoshka", "standard"] = "matryoshka"
    """topk (k per token), batch_topk (k on average), matryoshka (batch_topk with nested prefixes) or standard (L1)."""
    d_sae: int = Field(default=8192, ge=1)
    """Number of features."""
    k: int = Field(default=32, ge=1)
    """Active features per token (on average over the batch for batch_topk and matryoshka; unused by standard)."""
    n_prefixes: int | None = Field(default=None, ge=1)
    """Number of nested prefixes, each twice as wide as the one before, the last one the whole dictionary; unset: 5."""
    prefixes: tuple[int, ...] = ()
    """Widths of the prefixes, ascending, ending with d_sae; overrides n_prefixes."""
    prefix_sampling: Literal["fixed", "pareto"] = "fixed"
    """fixed widths, or n_prefixes widths drawn anew at every step from a truncated Pareto distribution."""
    pareto_exponent: float = Field(default=0.5, gt=0)
    """Exponent of that distribution: P(width > w) falls as w to the minus this."""
    prefix_seed: Seed = 0
    """Seed of the drawn widths."""
    loss_variant: Literal["sum", "mean", "mean_with_bias"] = "sum"
    """Matryoshka: sum over prefixes, mean over prefixes, or mean that counts a decoder-bias-only term too."""
    decoder_norm: Literal["unit", "free"] = "unit"
    """unit: decoder rows have norm one throughout; free: activations are scaled by the row norm (folded when saved)."""
    aux_coefficient: float = Field(default=1 / 32, ge=0)
    """Weight of the dead-feature loss (AuxK) relative to the mean prefix loss; 0 switches it off."""
    k_aux: int | None = Field(default=None, ge=1)
    """Dead features that reconstruct the residual of each token; unset: half the width of the activations."""
    dead_share: float = Field(default=0.05, gt=0)
    """A feature is dead once it has not fired for this share of the run's tokens."""
    threshold_rate: float = Field(default=0.01, gt=0, le=1)
    """Rate of the running mean of the smallest positive activation, which is the threshold at inference."""
    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the encoder's matrix product; weights and gradients stay float32."""
    l1_coefficient: float = Field(default=1e-3, ge=0)
    """standard: weight of the activations, each times its decoder row's norm."""
    l0_target: float | None = Field(default=None, gt=0)
    """standard: adjust the L1 weight step by step until this many features are active per token."""
    l0_rate: float = Field(default=1e-3, gt=0, le=1)
    """standard: largest relative change of the L1 weight per step under l0_target."""
    skip: bool = False
    """Transcoders: add a linear map from the input to the output beside the features."""
    encoder_scale: float = Field(default=1.0, gt=0)
    """Norm of the encoder rows at the start, which are otherwise the decoder's."""

    @model_validator(mode="after")
    def _fits_together(self) -> "SAEConfig":
        if self.architecture != "standard" and self.k > self.d_sae:
            raise ValueError(f"k: got {self.k} active of d_sae {self.d_sae} features; give k at most d_sae")
        if self.prefixes and not _ascending_to(self.prefixes, self.d_sae):
            raise ValueError(f"prefixes: got {list(self.prefixes)}; give ascending widths that end with {self.d_sae}")
        if self.architecture == "matryoshka" and not self.prefixes and self.nested_prefixes() > self._most_prefixes():
            most = self._most_prefixes()
            raise ValueError(f"n_prefixes: got {self.n_prefixes} for {self.d_sae} features; give at most {most}")
        return self

    def prefix_widths(self) -> tuple[int, ...]:
        """Prefix widths of a Matryoshka SAE; the whole dictionary alone for the others."""
        if self.architecture != "matryoshka":
            return (self.d_sae,)
        if self.prefixes:
            return self.prefixes
        return tuple(self.d_sae >> halvings for halvings in reversed(range(self.nested_prefixes())))

    def nested_prefixes(self) -> int:
        """How many prefixes, unless their widths are given."""
        return min(DEFAULT_PREFIXES, self._most_prefixes()) if self.n_prefixes is None else self.n_prefixes

    def _most_prefixes(self) -> int:
        # Halvings end at one feature; drawn prefixes may take every width.
        return self.d_sae if self.prefix_sampling == "pareto" else self.d_sae.bit_length()


def _ascending_to(widths: tuple[int, ...], last: int) -> bool:
    steps = zip((0, *widths), widths, strict=False)
    return widths[-1] == last and all(low < high for low, high in steps)
