"""What the name hierarchy study found, arm by arm and seed by seed."""

from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from interp.studies.name_hierarchy_scoring import ParentScore

SCHEMA_VERSION = 1
Arm = Literal["batch_topk", "matryoshka", "frozen_decoder", "untrained", "neurons", "dense_probe"]
TRAINED: tuple[Arm, ...] = ("batch_topk", "matryoshka", "frozen_decoder")
METRICS = ("precision", "recall", "f1", "hole_share", "least_recall")


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm and seed, scored.

    Units: l0 active features per held-out token; explained_variance of held-out activations (None: not a dictionary).
    """

    arm: Arm
    seed: int
    l0: float | None
    explained_variance: float | None
    parents: tuple[ParentScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, the derived ones included."""
        derived = ("n_holes", "n_kept", "hole_share", "least_recall")
        parents = [asdict(one) | {name: getattr(one, name) for name in derived} for one in self.parents]
        head = {"arm": self.arm, "seed": self.seed, "l0": self.l0, "explained_variance": self.explained_variance}
        return head | {"parents": parents}


@dataclass(frozen=True, slots=True)
class NameHierarchyStudy:
    """All arms and seeds, and what was asked.

    occurrences: of each parent, how many held-out tokens are of it and how many names occur often enough to be scored.
    """

    config: dict[str, Any]
    n_tokens: int
    occurrences: dict[str, tuple[int, int]]
    runs: tuple[ArmRun, ...]

    def values(self, arm: str, parent: str, metric: str) -> list[float]:
        """A figure of every seed."""
        return [
            float(getattr(score, metric))
            for run in self.runs
            if run.arm == arm
            for score in run.parents
            if score.parent == parent
        ]

    def summary(self, parent: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Per arm and metric: mean, standard deviation over seeds (None for one) and each seed's figure."""
        out: dict[str, dict[str, dict[str, Any]]] = {}
        for arm in dict.fromkeys(run.arm for run in self.runs):
            own = [run for run in self.runs if run.arm == arm]
            figures = {metric: _summary(self.values(arm, parent, metric)) for metric in METRICS}
            known = {"l0": [run.l0 for run in own], "explained_variance": [run.explained_variance for run in own]}
            out[arm] = figures | {name: _summary([v for v in held if v is not None]) for name, held in known.items()}
        return out

    @property
    def parents(self) -> tuple[str, ...]:
        """The parent classes, the most general one first."""
        return tuple(self.occurrences)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "name-hierarchy",
            "config": self.config,
            "n_tokens": self.n_tokens,
            "occurrences": {name: list(counts) for name, counts in self.occurrences.items()},
            "parents": {parent: self.summary(parent) for parent in self.parents},
            "runs": [run.to_json() for run in self.runs],
        }


def _summary(values: list[float]) -> dict[str, Any]:
    if not values:
        return {"mean": None, "sd": None, "seeds": []}
    return {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None, "seeds": values}
