"""What kind of sparse autoencoder to train."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from interp.config import Config, Seed

DEFAULT_PREFIXES = 5
CODEBOOK = "codebook"
Architecture = Literal["topk", "batch_topk", "matryoshka", "standard", "gated", "jumprelu", "codebook"]
ARCHITECTURE_NAMES: tuple[Architecture, ...] = tuple(name for name in get_args(Architecture) if name != CODEBOOK)
"""Architectures whose features have strengths, all of which SAELens can hold; a codebook's codes are on or off."""
PENALISED = ("standard", "gated", "jumprelu")
"""Architectures whose number of active features is held down by a penalty; the others keep a given number."""


class SAEConfig(Config):
    """Architecture, size and loss of a sparse autoencoder."""

    architecture: Architecture = "matryoshka"
    """topk (k per token), batch_topk (k on average), matryoshka (batch_topk with nested prefixes), standard (L1), gated
    (one path says which features fire, another how strongly), jumprelu (a threshold for each feature) or codebook (the
    k nearest codes, on or off)."""
    d_sae: int = Field(default=8192, ge=1)
    """Number of features."""
    k: int = Field(default=32, ge=1)
    """Active features per token (on average over the batch for batch_topk and matryoshka). For standard, gated and
    jumprelu, what the penalty is steered to under l0_control."""
    n_prefixes: int | None = Field(default=None, ge=1)
    """Number of nested prefixes, each twice as wide as the one before, the last one the whole dictionary; unset: 5."""
    nest: bool = False
    """Nest prefixes in the other architectures too: matryoshka topk, standard, gated, jumprelu."""
    prefixes: tuple[int, ...] = ()
    """Widths of the prefixes, ascending, ending with d_sae; overrides n_prefixes."""
    prefix_sampling: Literal["fixed", "pareto"] = "fixed"
    """fixed widths, or n_prefixes widths drawn anew at every step from a truncated Pareto distribution."""
    pareto_exponent: float = Field(default=0.5, gt=0)
    """Exponent of that distribution: P(width > w) falls as w to the minus this."""
    prefix_seed: Seed = 0
    """Seed of the drawn widths."""
    loss_variant: Literal["sum", "mean", "mean_with_bias"] = "sum"
    """Nested prefixes: sum over prefixes, mean over prefixes, or mean that counts a decoder-bias-only term too."""
    decoder_norm: Literal["unit", "free"] = "unit"
    """unit: decoder rows have norm one throughout; free: activations are scaled by the row norm (folded when saved)."""
    aux_coefficient: float = Field(default=1 / 32, ge=0)
    """Weight of the dead-feature loss (AuxK) relative to the mean prefix loss; 0 switches it off."""
    k_aux: int | None = Field(default=None, ge=1)
    """Dead features that reconstruct the residual of each token; unset: half the width of the activations."""
    dead_share: float = Field(default=0.05, gt=0)
    """A feature is dead once it has not fired for this share of the run's tokens."""
    dead_features: Literal["auto", "aux", "resample", "leave"] = "auto"
    """What is done about dead features: aux (AuxK: they reconstruct what the others leave), resample (they start anew
    from badly reconstructed tokens), leave; auto: resample for standard, gated and codebook, aux for the others."""
    resample_at: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5)
    """Shares of the run's tokens after which dead features are resampled."""
    resample_seed: Seed = 0
    """Seed of the tokens that they start from."""
    threshold_rate: float = Field(default=0.01, gt=0, le=1)
    """Rate of the running mean of the smallest positive activation, which is the threshold at inference; in runs of a
    few hundred steps 0.1 lags less."""
    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the encoder's matrix product; weights and gradients stay float32."""
    l1_coefficient: float | None = Field(default=None, ge=0)
    """standard, gated, jumprelu: weight of the penalty (where it starts, under l0_control). The penalty counts each
    activation times its decoder row's norm; of a jumprelu each active feature as one, or its tanh. Unset: a start from
    below that fits rescaled activations."""
    penalty_warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the run's tokens over which the penalty's weight rises from zero."""
    l0_control: bool | None = None
    """standard, gated, jumprelu: adjust the penalty's weight step by step until k (or l0_target) features are active;
    unset: unless l1_coefficient is given and l0_target is not."""
    l0_target: float | None = Field(default=None, gt=0)
    """Active features per token that l0_control steers to; unset: k."""
    l0_rate: float | None = Field(default=None, gt=0, le=1)
    """Largest relative change of the penalty's weight per step under l0_control; unset: such that it can change by
    exp(8) over the run, between 0.001 and 0.05. In all it never changes by more than exp(8)."""
    bandwidth: float = Field(default=0.05, gt=0)
    """jumprelu: width of the window about a threshold within which it gets a gradient (in scaled activations)."""
    threshold_start: float | None = Field(default=None, gt=0)
    """jumprelu: every threshold at the start (in scaled activations); unset: a fifth of the size that active features
    have if the wanted number of them makes up an activation."""
    l0_penalty: Literal["step", "tanh"] = "step"
    """jumprelu: count active features, or sum tanh(l0_tanh_scale · activation)."""
    l0_tanh_scale: float = Field(default=4.0, gt=0)
    """How soon the tanh penalty saturates."""
    skip: bool = False
    """Transcoders: add a linear map from the input to the output beside the features."""
    codebook_variant: Literal["plain", "grouped", "residual", "latent"] = "plain"
    """codebook: the k codes of largest cosine (plain); the same in each of n_groups parts of the activation (grouped);
    in n_stages, each coding what the stages before leave (residual); or k linear latents, each rounded to the nearest
    of its own levels, a code for each latent and level (latent: d_sae is k times levels)."""
    n_groups: int = Field(default=4, ge=1)
    """codebook, grouped: parts of the activation, each with d_sae / n_groups codes, k / n_groups of them active."""
    n_stages: int = Field(default=4, ge=1)
    """codebook, residual: stages, each with d_sae / n_stages codes, k / n_stages of them active."""
    levels: int = Field(default=8, ge=2)
    """codebook, latent: learnt values that a latent may take."""
    code_sum: Literal["sum", "mean"] = "sum"
    """codebook: the active codes of a part or stage are added up, or averaged."""
    commitment: float = Field(default=0.25, ge=0)
    """codebook, latent: weight of the squared distance between latents and their levels, which pulls each to the other.
    Elsewhere what pulls codes to activations is the reconstruction error itself."""
    encoder_scale: float = Field(default=1.0, gt=0)
    """Norm of the encoder rows at the start, which are otherwise the decoder's."""

    @model_validator(mode="after")
    def _fits_together(self) -> "SAEConfig":
        if self.k > self.d_sae and not self.penalised:
            raise ValueError(f"k: got {self.k} active of d_sae {self.d_sae} features; give k at most d_sae")
        if self.prefixes and not _ascending_to(self.prefixes, self.d_sae):
            raise ValueError(f"prefixes: got {list(self.prefixes)}; give ascending widths that end with {self.d_sae}")
        if not self.prefixes and self.nested_prefixes() > self._most_prefixes():
            most = self._most_prefixes()
            raise ValueError(f"n_prefixes: got {self.n_prefixes} for {self.d_sae} features; give at most {most}")
        if self.l0_controlled and self.l1_coefficient == 0:
            raise ValueError("l1_coefficient: got 0, which l0_control cannot change; give a start above 0")
        if any(not 0 < share < 1 for share in self.resample_at):
            raise ValueError(f"resample_at: got {list(self.resample_at)}; give shares between 0 and 1")
        if self.architecture == CODEBOOK:
            self._check_codebook()
        return self

    def _check_codebook(self) -> None:
        """Raises: ValueError for sizes that do not divide, or what a codebook does not have."""
        if self.dead_features == "aux":
            raise ValueError(
                "dead_features: got aux, which needs strengths; a codebook has none, give resample or leave"
            )
        if self.codebook_variant == "latent":
            if self.d_sae != self.k * self.levels:
                wanted = f"k {self.k} times levels {self.levels} = {self.k * self.levels}"
                raise ValueError(f"d_sae: got {self.d_sae} codes; a latent codebook has {wanted}, give that")
            if self.nested:
                raise ValueError("nest: a latent codebook decodes all of its latents together; leave nest out")
        name = {"grouped": "n_groups", "residual": "n_stages"}.get(self.codebook_variant)
        for what, value in (("d_sae", self.d_sae), ("k", self.k)) if name is not None else ():
            if value % self.n_parts:
                raise ValueError(
                    f"{name}: got {self.n_parts}, which does not divide {what} {value}; give one that does"
                )

    @property
    def penalised(self) -> bool:
        """Whether a penalty, and not a count, holds down the number of active features."""
        return self.architecture in PENALISED

    @property
    def l0_controlled(self) -> bool:
        """Whether the penalty's weight is steered; a weight that is given alone is meant to stay as it is."""
        if not self.penalised:
            return False
        if self.l0_control is not None:
            return self.l0_control
        return self.l0_target is not None or self.l1_coefficient is None

    @property
    def n_parts(self) -> int:
        """codebook: how many codebooks it is made of."""
        return {"grouped": self.n_groups, "residual": self.n_stages, "latent": self.k}.get(self.codebook_variant, 1)

    @property
    def nested(self) -> bool:
        """Whether prefixes of the dictionary reconstruct the input too."""
        return len(self.prefix_widths()) > 1

    @property
    def wanted_l0(self) -> float:
        """Active features per token that training aims at."""
        return self.l0_target if self.penalised and self.l0_target is not None else float(min(self.k, self.d_sae))

    @property
    def revival(self) -> Literal["aux", "resample", "leave"]:
        """What is done about dead features."""
        if self.dead_features != "auto":
            return self.dead_features
        return "resample" if self.architecture in ("standard", "gated", CODEBOOK) else "aux"

    def prefix_widths(self) -> tuple[int, ...]:
        """Widths of the prefixes, the last one the whole dictionary; that alone where nothing is nested."""
        if not self._nests:
            return (self.d_sae,)
        if self.prefixes:
            return self.prefixes
        return tuple(self.d_sae >> halvings for halvings in reversed(range(self.nested_prefixes())))

    def nested_prefixes(self) -> int:
        """How many prefixes, unless their widths are given."""
        if not self._nests:
            return 1
        return min(DEFAULT_PREFIXES, self._most_prefixes()) if self.n_prefixes is None else self.n_prefixes

    @property
    def _nests(self) -> bool:
        return self.architecture == "matryoshka" or self.nest

    def _most_prefixes(self) -> int:
        # Halvings end at one feature; drawn prefixes may take every width.
        return self.d_sae if self.prefix_sampling == "pareto" else self.d_sae.bit_length()


def _ascending_to(widths: tuple[int, ...], last: int) -> bool:
    steps = zip((0, *widths), widths, strict=False)
    return widths[-1] == last and all(low < high for low, high in steps)
