"""What an evaluation tells, as plain values: runs/<name>/evaluation.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from interp.errors import ArtifactError

SCHEMA_VERSION = 1
FAR_OFF = 1.25
"""Factor by which an L0 may miss what training aimed at before an evaluation says so."""
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Loss over the same predicted tokens with the kept tokens' activations as they are, zeroed, set to their mean, or
    reconstructed. Tokens that are not kept are left alone in every arm and predict nothing that is counted.

    delta is sae - clean with its 95% interval over documents; recovered (H₀ - H_sae) / (H₀ - H) with H₀ zero or mean.
    Units: nats per token; kl is KL(clean ‖ sae).
    """

    n_predicted: int
    clean: float
    zero: float
    mean: float
    sae: float
    delta: float
    delta_interval: Interval | None
    recovered_vs_zero: float | None
    recovered_vs_mean: float | None
    kl: float


@dataclass(frozen=True, slots=True)
class PrefixScore:
    """The same for the first `width` features alone."""

    width: int
    explained_variance: float
    l0: float
    ce_delta: float | None
    kl: float | None


@dataclass(frozen=True, slots=True)
class Sinks:
    """Explained variance with and without tokens whose norm exceeds `ratio` × the median norm."""

    ratio: float
    median_norm: float
    n_sinks: int
    explained_variance_with: float
    explained_variance_without: float


@dataclass(frozen=True, slots=True)
class ArmScore:
    """What is told of a null arm beside the SAE's own figures."""

    explained_variance: float
    l0: float
    dead_share: float
    ce_delta: float | None
    recovered_vs_zero: float | None
    recovered_vs_mean: float | None
    kl: float | None


@dataclass(frozen=True, slots=True)
class HookScore:
    """How well one of several hooks is reconstructed; ce with that hook alone replaced."""

    hook: str
    explained_variance: float
    explained_variance_interval: Interval | None
    ce: CrossEntropy | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A dictionary's scores; runs/<name>/evaluation.json. Intervals are 95%, over documents; None with fewer than two.

    What is scored is the output: of a transcoder, what stands at the hook that it writes, replaced by what it makes of
    the hook that it reads, in the same pass. Of a crosscoder, `hooks` has the scores of each hook, replaced alone; the
    figures of all are means over hooks, so that each hook's variance counts as one (saes.metrics.PooledVariance) and
    zero, mean, sae, delta and kl are what one hook costs on average.

    ce is None where it is not measured: an encoder predicts no next token. `hook` is the first that is written;
    architecture is what the SAE's run or folder calls it; wanted_l0 is what its training aimed at, if that is known.
    """

    n_tokens: int
    n_documents: int
    explained_variance: float
    explained_variance_interval: Interval | None
    fvu: float
    l0: float
    dead_share: float
    dense_share: float
    ce: CrossEntropy | None
    prefixes: tuple[PrefixScore, ...]
    sinks: Sinks
    seed: int
    hook: str
    mask_policy: Mapping[str, Any]
    model_hash: str
    data: Mapping[str, Any]
    null_arms: Mapping[str, ArmScore] = field(default_factory=dict)
    architecture: str | None = None
    hooks_in: tuple[str, ...] = ()
    hooks_out: tuple[str, ...] = ()
    hooks: tuple[HookScore, ...] = ()
    wanted_l0: float | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def missed_l0(self) -> str | None:
        """What to say where L0 is far from what training aimed at; None where it is near, or aimed at nothing."""
        if self.wanted_l0 is None or 1 / FAR_OFF < self.l0 / self.wanted_l0 < FAR_OFF:
            return None
        aim = f"training aimed at {self.wanted_l0:g}: the run may have been too short to settle there"
        return f"{aim}; give it more tokens, or for batch_topk and matryoshka --sae.threshold-rate 0.1"

    def as_arm(self) -> ArmScore:
        """The figures told when this evaluation is a null arm of another."""
        scores = self.explained_variance, self.l0, self.dead_share
        ce = self.ce
        if ce is None:
            return ArmScore(*scores, None, None, None, None)
        return ArmScore(*scores, ce.delta, ce.recovered_vs_zero, ce.recovered_vs_mean, ce.kl)

    def to_json(self) -> dict[str, Any]:
        """Plain values for evaluation.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Evaluation":
        """Raises: ArtifactError naming the first entry that is missing or of the wrong type."""
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"not an evaluation of version {SCHEMA_VERSION}; evaluate the run again")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ArtifactError(f"evaluation: {where}: {first['msg'].lower()}; evaluate the run again") from None
