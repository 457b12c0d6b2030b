"""What the study of architectures is told: its arms, and the two sweeps that train them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from interp.errors import ConfigError
from interp.storage import is_there, make_folder, read_json, write_json
from saes.baselines import TITLES, Kind
from saes.config import ARCHITECTURE_NAMES, SAEConfig
from saes.sweep_config import SweepConfig
from saes.train_config import TrainConfig

SCHEMA_VERSION = 1
FILE_NAME = "study.json"
Group = Literal["trained", "baseline", "apart", "null"]
Rule = Literal["threshold", "controller", "exact", "own"]
GROUPS: tuple[Group, ...] = get_args(Group)
RULES: Mapping[Rule, str] = {
    "threshold": "one number added to its thresholds",
    "controller": "as the L0 controller left it",
    "exact": "k of each token",
    "own": "its own",
}
"""How an arm comes to its L0."""

FROZEN, RANDOM_MODEL, PERMUTED, MATCHED, UNTRAINED = (
    "frozen_decoder",
    "random_model",
    "permuted_decoder",
    "matched_random",
    "untrained",
)
TRAINED: tuple[str, ...] = ("standard", "gated", "jumprelu", "topk", "batch_topk", "matryoshka")
BASELINES: tuple[Kind, ...] = ("pca", "ica", "random", "neurons")
APART: tuple[Kind, ...] = ("kmeans",)
NULLS = (FROZEN, RANDOM_MODEL, PERMUTED, MATCHED, UNTRAINED)
ARMS = (*TRAINED, *BASELINES, *APART, *NULLS)
assert set(TRAINED) == set(ARCHITECTURE_NAMES)
DRAWN_ONCE = ("pca", "neurons")
"""Arms in which nothing is drawn: another seed would be the same again."""
REFERENCE = "batch_topk"
"""The architecture that null arms are made of."""

_NOT_SHARED = {
    "activations": "the arm with shuffled weights needs the model",
    "freeze_decoder": "it is an arm of the study",
    "hook_out": "baselines reconstruct what they read",
    "more_hooks": "baselines have one hook",
    "other_model": "baselines have one model",
    "randomise_model": "it is an arm of the study",
    "warm_start": "architectures have different weights",
}


def group_of(arm: str) -> Group:
    """What an arm is to the others."""
    return "trained" if arm in TRAINED else "null" if arm in NULLS else "apart" if arm in APART else "baseline"


def rule_of(arm: str) -> Rule:
    """How an arm comes to its L0."""
    if arm in APART:
        return "own"
    if arm in ("standard", "gated"):
        return "controller"
    return "exact" if arm == "topk" or arm in BASELINES else "threshold"


def title_of(arm: str) -> str:
    """What a reader is told that an arm is."""
    return {str(kind): title for kind, title in TITLES.items()}.get(arm, _TITLES.get(arm, arm.replace("_", " ")))


_TITLES = {
    "standard": "Standard (L1)",
    "gated": "Gated",
    "jumprelu": "JumpReLU",
    "topk": "TopK",
    "batch_topk": "BatchTopK",
    "matryoshka": "Matryoshka",
    MATCHED: "matched random directions",
}


@dataclass(frozen=True, slots=True)
class StudySettings:
    """A study: what all SAEs have in common (`base`, whose `out` is the study's folder), and how they are scored.

    concepts: folder of a treebank; None: the bundled concept sets. per_class: labelled words of each class to train
    probes on. Units: tokens.
    """

    base: TrainConfig
    n_seeds: int = 3
    eval_tokens: int = 50_000
    baseline_tokens: int = 50_000
    concepts: Path | None = None
    per_class: int = 400

    def __post_init__(self) -> None:
        """Raises: ConfigError for a setting that not all arms can share."""
        plain = TrainConfig.model_fields
        for name, reason in _NOT_SHARED.items():
            if name in plain and getattr(self.base, name) != plain[name].default:
                raise ConfigError(f"{name}: {reason}; leave --{name.replace('_', '-')} out")
        for name in ("architecture", "n_prefixes", "prefixes", "nest"):
            if getattr(self.base.sae, name) != getattr(SAEConfig(), name):
                raise ConfigError(f"sae.{name}: the study trains every architecture; leave it out")

    @property
    def folder(self) -> Path:
        return self.base.out

    @property
    def target_l0(self) -> float:
        """Active features per token at which arms are compared."""
        return float(self.base.sae.k)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.base.seed, self.base.seed + self.n_seeds))

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """Seeds that an arm is repeated with."""
        return self.seeds[:1] if arm in DRAWN_ONCE else self.seeds

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """Every arm and seed."""
        return tuple((arm, seed) for arm in ARMS for seed in self.seeds_of(arm))

    def main_sweep(self) -> SweepConfig:
        """Every architecture, and the frozen decoder, from one stream."""
        frozen = {"sae.architecture": REFERENCE, "freeze_decoder": True}
        return self._sweep(
            "sweep",
            grid={"sae.architecture": list(TRAINED), "seed": list(self.seeds)},
            also=[frozen | {"seed": seed} for seed in self.seeds],
        )

    def random_model_sweep(self) -> SweepConfig:
        """The same for the model with shuffled weights, whose activations are a stream of their own."""
        grid: dict[str, list[Any]] = {"sae.architecture": [REFERENCE], "seed": list(self.seeds)}
        return self._sweep("random_model", grid=grid, randomise_model=self.base.seed)

    def _sweep(self, name: str, *, grid: dict[str, list[Any]], also: Any = (), **changes: Any) -> SweepConfig:
        base = self.base.model_copy(update=changes).model_dump(mode="json", exclude={"out"})
        out = self.folder / name
        return SweepConfig.parse({"base": base, "grid": grid, "also": list(also), "out": out}, source="study")

    def to_json(self) -> dict[str, Any]:
        """Plain values of all that results depend on."""
        return {
            "base": self.base.model_dump(mode="json", exclude={"out", "recording"}),
            "seeds": list(self.seeds),
            "eval_tokens": self.eval_tokens,
            "baseline_tokens": self.baseline_tokens,
            "concepts": None if self.concepts is None else str(self.concepts),
            "per_class": self.per_class,
        }

    def claim_folder(self) -> None:
        """Write study.json into the folder, or find the same settings there.

        Raises: ConfigError naming the first setting that differs from those that the folder was begun with.
        """
        path, now = self.folder / FILE_NAME, {"schema_version": SCHEMA_VERSION, **self.to_json()}
        if not is_there(path):
            write_json(make_folder(self.folder) / FILE_NAME, now)
            return
        was = read_json(path)
        for name, value in _flat(now).items():
            if (before := _flat(was).get(name)) != value:
                raise ConfigError(f"{path}: was begun with {name} = {before!r}; got {value!r}; give another --out")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
