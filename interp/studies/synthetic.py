"""Which SAEs find known features? Activations of known make, six arms, several seeds, scored against the truth.

All arms are scored at the same number of active latents, by one threshold set on tokens that are not scored. Null
arms stand beside (a decoder frozen at random, an SAE as initialised), and an oracle: the true directions of most
energy as decoder and encoder, untrained.
Source: the question, and the order expected of it, are of Chanin and Garriga-Alonso 2026 (arXiv 2602.14687).
"""

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from interp.errors import ArtifactError, ConfigError
from interp.storage import make_folder, read_json, write_json
from interp.studies.matryoshka_toy import set_threshold
from interp.studies.synthetic_training import ARMS, Arm, SyntheticStudyConfig, make_arm
from saes.ground_truth import TruthScores, score_against_truth
from saes.synthetic_build import build_world
from saes.synthetic_world import Tokens, World

SCHEMA_VERSION = 1
_EVAL_SEED = 1_000_003
_EVAL_BATCH = 2048

METRICS = (*TruthScores.__dataclass_fields__, "l0_positive", "seconds")
PUBLISHED: dict[str, dict[str, float]] = {
    "matryoshka": {"f1": 0.879, "mcc": 0.793, "explained_variance": 0.779},
    "batch_topk": {"f1": 0.732, "mcc": 0.757, "explained_variance": 0.792},
    "l1": {"f1": 0.556, "mcc": 0.604, "explained_variance": 0.765},
}
"""16,384 features, d=768, 4,096 latents, L0 25, 200M tokens. Source: arXiv 2602.14687."""
_HELD_BY_ALL = ("seeds", "workers")


@dataclass(frozen=True, slots=True)
class SyntheticRun:
    """One arm and seed.

    `l0_positive` counts all positive latents, the scores' `l0` those above the threshold. Units: seconds of making
    and scoring.
    """

    arm: Arm
    seed: int
    scores: TruthScores
    l0_positive: float
    threshold: float
    seconds: float

    def value(self, metric: str) -> float | None:
        """One figure by name."""
        found: float | None = self.scores.facts().get(metric, getattr(self, metric, None))
        return found


@dataclass(frozen=True, slots=True)
class SyntheticStudy:
    """All runs of the study and what was asked."""

    config: SyntheticStudyConfig
    runs: tuple[SyntheticRun, ...]

    def values(self, arm: Arm, metric: str) -> list[float | None]:
        """One figure per seed."""
        return [run.value(metric) for run in self.runs if run.arm == arm]

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Per arm and metric: mean, standard deviation over seeds (None for one seed) and each seed's figure."""
        return {arm: {metric: _summary(self.values(arm, metric)) for metric in METRICS} for arm in ARMS}

    def orders(self) -> dict[str, dict[str, Any]]:
        """Per published metric: the published order of arms, and on how many seeds each step of it holds."""
        return {metric: self._order(metric) for metric in PUBLISHED["l1"]}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "synthetic",
            "config": self.config.model_dump(mode="json"),
            "arms": self.summary(),
            "published": PUBLISHED,
            "orders": self.orders(),
            "runs": [asdict(run) for run in self.runs],
        }

    def _order(self, metric: str) -> dict[str, Any]:
        order = sorted(PUBLISHED, key=lambda arm: -PUBLISHED[arm][metric])
        by_arm = {arm: [run.value(metric) or 0.0 for run in self.runs if run.arm == arm] for arm in order}
        held = [sum(a > b for a, b in zip(by_arm[high], by_arm[low], strict=True)) for high, low in pairwise(order)]
        return {"order": order, "seeds_held": held, "seeds": len(by_arm["l1"])}


def run_synthetic(config: SyntheticStudyConfig, folder: Path | None = None) -> Iterator[SyntheticRun]:
    """Make and score every arm with every seed, in the order in which runs are done.

    With a folder each run is kept there once it is done, and those that are there already are not done again.
    Raises: ConfigError if the folder holds runs of other settings.
    """
    tasks = [(config, arm, seed, folder) for seed, arm in product(range(config.seeds), ARMS)]
    if folder is not None:
        make_folder(folder)
        for task in tasks:
            if _path(folder, *task[1:3]).exists():
                yield _read(_path(folder, *task[1:3]), config)
        tasks = [task for task in tasks if not _path(folder, *task[1:3]).exists()]
    if config.workers == 1 or len(tasks) < 2:
        yield from (run_one(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(config.workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        yield from pool.map(run_one, *zip(*tasks, strict=True))


def collect(config: SyntheticStudyConfig, runs: Iterable[SyntheticRun]) -> SyntheticStudy:
    """The study made of its runs, ordered by arm and seed."""
    return SyntheticStudy(config, tuple(sorted(runs, key=lambda run: (ARMS.index(run.arm), run.seed))))


def run_one(config: SyntheticStudyConfig, arm: Arm, seed: int, folder: Path | None = None) -> SyntheticRun:
    """Make one arm with one seed, score it, and keep the result in the folder, if one is given."""
    begun = time.perf_counter()
    world = build_world(config.world_config(seed))
    sae = make_arm(config, world, arm, seed)
    generator = torch.Generator().manual_seed(_EVAL_SEED + seed)
    l0_positive = set_threshold(sae, world.draw(config.eval_tokens, generator).x, config.eval_l0)
    scores, _ = score_against_truth(sae, world, _scored_tokens(world, config.eval_tokens, generator))
    run = SyntheticRun(arm, seed, scores, l0_positive, float(sae.threshold), time.perf_counter() - begun)
    if folder is not None:
        kept = {"schema_version": SCHEMA_VERSION, "config": _settings(config), "run": asdict(run)}
        write_json(_path(folder, arm, seed), kept)
    return run


def _scored_tokens(world: World, n_tokens: int, generator: torch.Generator) -> Iterator[Tokens]:
    for begin in range(0, n_tokens, _EVAL_BATCH):
        yield world.draw(min(_EVAL_BATCH, n_tokens - begin), generator)


def _path(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-{seed}.json"


def _read(path: Path, config: SyntheticStudyConfig) -> SyntheticRun:
    kept = read_json(path)
    version = kept.get("schema_version") if isinstance(kept, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: got version {version}; expected {SCHEMA_VERSION}; give another --out")
    for name, value in _settings(config).items():
        if kept["config"].get(name) != value:
            raise ConfigError(
                f"{name}: got {value}; {path} was made with {kept['config'].get(name)}; give the same, or another --out"
            )
    return SyntheticRun(**kept["run"] | {"scores": TruthScores(**kept["run"]["scores"])})


def _settings(config: SyntheticStudyConfig) -> dict[str, Any]:
    """What a run depends on, by dotted name."""
    values = config.model_dump(mode="json", exclude=set(_HELD_BY_ALL))
    data = values.pop("data")
    return values | {f"data.{name}": value for name, value in data.items()}


def _summary(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    sd = stdev(known) if len(known) > 1 else None
    return {"mean": fmean(known) if known else None, "sd": sd, "seeds": values}
