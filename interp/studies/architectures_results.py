"""What the study of architectures found, arm by arm and seed by seed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from interp.errors import ArtifactError
from interp.studies.architectures_settings import ARMS, RULES, SCHEMA_VERSION, group_of, rule_of, title_of
from probes.benchmark_rows import FEATURES, RANDOM
from probes.sparse_probing import KS

METRICS = ("explained_variance", "l0", "ce_delta", "kl", "dead_share", "dense_share", "tokens_per_s")
OFF_TARGET = 0.05
"""Largest relative distance from the wanted L0 that goes without saying."""

Interval = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProbeScore:
    """Held-out accuracy of a probe: which concept, of what (features, random features, …), how many; 95% by words."""

    concept: str
    arm: str
    n_features: int | None
    accuracy: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm and seed, scored on held-out text; ce_delta and kl are None of an encoder, tokens_per_s of what is not
    trained in steps.

    l0_before and calibration_l0 are on the training text on which the threshold was set, before and after `shift`.
    Units: nats per token; tokens per second of the step alone, harvesting apart.
    """

    arm: str
    seed: int
    n_tokens: int
    explained_variance: float
    explained_variance_interval: Interval | None
    l0: float
    ce_delta: float | None
    ce_delta_interval: Interval | None
    kl: float | None
    dead_share: float
    dense_share: float
    tokens_per_s: float | None
    shift: float | None
    l0_before: float
    calibration_l0: float
    probing: tuple[ProbeScore, ...]

    def probe_mean(self, k: int, arm: str = FEATURES) -> float | None:
        """Accuracy with k features, the mean over concepts; None without concepts."""
        return _mean([one.accuracy for one in self.probing if one.n_features == k and one.arm == arm])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: Any) -> "ArmRun":
        """Raises: ArtifactError if it is of another version or damaged."""
        return _read(cls, values)


@dataclass(frozen=True, slots=True)
class References:
    """Probes that need no dictionary, on the activations of the model and of the one with shuffled weights."""

    model: tuple[ProbeScore, ...]
    random_model: tuple[ProbeScore, ...]

    def means(self) -> dict[str, dict[str, float | None]]:
        """Accuracy of each kind of probe, the mean over concepts."""
        return {
            where: {arm: _mean([one.accuracy for one in scores if one.arm == arm]) for arm in _arms_of(scores)}
            for where, scores in (("model", self.model), ("random_model", self.random_model))
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: Any) -> "References":
        """Raises: ArtifactError if it is of another version or damaged."""
        return _read(cls, values)


@dataclass(frozen=True, slots=True)
class ArchitecturesStudy:
    """All arms and seeds. `about` has what a reader must know of their making: model, data, hardware, cost, settings.

    failed: arms and seeds that could not be trained, and why.
    """

    about: Mapping[str, Any]
    target_l0: float
    runs: tuple[ArmRun, ...]
    references: References
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        """Held-out tokens that every arm is scored on."""
        return max((run.n_tokens for run in self.runs), default=0)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms with at least one run, in the order of ARMS."""
        return tuple(arm for arm in ARMS if any(run.arm == arm for run in self.runs))

    def of(self, arm: str) -> tuple[ArmRun, ...]:
        """The runs of one arm."""
        return tuple(run for run in self.runs if run.arm == arm)

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Per arm and metric: mean, standard deviation over seeds (None for one seed) and each seed's figure."""
        return {arm: _summary_of(self.of(arm)) for arm in self.arms}

    def off_target(self) -> dict[str, float]:
        """Mean held-out L0 of the arms that are further from the target than OFF_TARGET; k-means apart."""
        means = {arm: fmean(run.l0 for run in self.of(arm)) for arm in self.arms if rule_of(arm) != "own"}
        return {arm: l0 for arm, l0 in means.items() if abs(l0 / self.target_l0 - 1) > OFF_TARGET}

    def by_concept(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Per concept and arm: accuracy with each number of features, over seeds."""
        concepts = dict.fromkeys(one.concept for run in self.runs for one in run.probing)
        return {concept: {arm: _concept_summary(self.of(arm), concept) for arm in self.arms} for concept in concepts}

    def to_json(self) -> dict[str, Any]:
        """Plain values, the derived ones included."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "architectures",
            **asdict(self),
            "n_tokens": self.n_tokens,
            "arms": {
                arm: {"title": title_of(arm), "group": group_of(arm), "l0_by": RULES[rule_of(arm)], "metrics": figures}
                for arm, figures in self.summary().items()
            },
            "off_target": self.off_target(),
            "probing": self.by_concept(),
            "reference_means": self.references.means(),
        }

    @classmethod
    def from_json(cls, values: Any) -> "ArchitecturesStudy":
        """Raises: ArtifactError if it is of another version or damaged."""
        return _read(cls, values)


def _read(cls: type[T], values: Any) -> T:
    if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(f"not a result of version {SCHEMA_VERSION} of this study; give another --out")
    names: Any = cls.__dataclass_fields__  # type: ignore[attr-defined]
    try:
        return TypeAdapter(cls).validate_python({name: values[name] for name in names if name in values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"study: {where}: {first['msg'].lower()}; give another --out") from None


def _summary_of(runs: tuple[ArmRun, ...]) -> dict[str, dict[str, Any]]:
    plain = {metric: _summary([getattr(run, metric) for run in runs]) for metric in METRICS}
    probes = {f"probe_k{k}": _summary([run.probe_mean(k) for run in runs]) for k in KS}
    return plain | probes | {f"random_k{k}": _summary([run.probe_mean(k, RANDOM) for run in runs]) for k in KS}


def _concept_summary(runs: tuple[ArmRun, ...], concept: str) -> dict[str, Any]:
    return {
        f"k{k}": _summary(
            [
                one.accuracy
                for run in runs
                for one in run.probing
                if (one.concept, one.arm, one.n_features) == (concept, FEATURES, k)
            ]
        )
        for k in KS
    }


def _summary(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return {"mean": None, "sd": None, "seeds": values}
    return {"mean": fmean(known), "sd": stdev(known) if len(known) > 1 else None, "seeds": values}


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _arms_of(scores: tuple[ProbeScore, ...]) -> dict[str, None]:
    return dict.fromkeys(one.arm for one in scores)
