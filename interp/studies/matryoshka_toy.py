"""Do nested prefixes keep general features? A tree of known features, five arms, several seeds.

A plain SAE may absorb a parent into its children: the parent's latent stops firing where a child fires, which costs no
reconstruction and saves an active latent. Each true feature is matched with one latent by the cosine of directions
(Hungarian method); precision, recall and F1 are of that latent's firing. All arms are scored at the same number of
active latents, reached by the same means: one threshold, set on samples that are not scored. A threshold can only
take latents away: an SAE that absorbs every parent has 0.85 positive latents per token and cannot be scored at the
tree's 1.12, so there is a second table at 0.85 that every arm reaches.

Axes: b tokens, t true features, f latents, d width of the activations.
Source: Bussmann et al. 2025 (arXiv 2503.17547), toy experiment.
"""

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.studies.toy_training import ARMS, Arm, ToyConfig, train_arm
from saes.base import SAE
from saes.matching import Detection, Matching, detection, match_by_cosine
from saes.synthetic import FeatureTree

SCHEMA_VERSION = 1
_EVAL_SEED = 1_000_003


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Mean over the features of one kind. `recall_with_child`: of the tokens on which a child fires too."""

    precision: float
    recall: float
    f1: float
    cosine: float
    recall_with_child: float | None = None


@dataclass(frozen=True, slots=True)
class ToyRun:
    """One arm and seed, scored at one L0.

    `l0_positive` counts all positive latents, `l0` those above the threshold; it falls short of `eval_l0` where fewer
    are positive. Units: seconds of training and scoring.
    """

    arm: Arm
    seed: int
    eval_l0: float
    parents: GroupScore
    children: GroupScore
    others: GroupScore
    explained_variance: float
    l0: float
    l0_positive: float
    threshold: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ToyStudy:
    """All runs of the study and what was asked."""

    config: ToyConfig
    runs: tuple[ToyRun, ...]

    def values(self, arm: Arm, metric: str, *, eval_l0: float) -> list[float]:
        """One figure per seed, by dotted name such as `parents.recall`."""
        return [_look_up(asdict(run), metric) for run in self.runs if (run.arm, run.eval_l0) == (arm, eval_l0)]

    def summary(self, eval_l0: float) -> dict[str, dict[str, dict[str, Any]]]:
        """Per arm and metric: mean, standard deviation over seeds (None for one seed) and each seed's figure."""
        return {
            arm: {metric: _summary(self.values(arm, metric, eval_l0=eval_l0)) for metric in METRICS} for arm in ARMS
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "matryoshka-toy",
            "config": self.config.model_dump(mode="json"),
            "at_l0": {f"{l0:g}": self.summary(l0) for l0 in self.config.eval_l0},
            "runs": [asdict(run) for run in self.runs],
        }


METRICS = (
    "parents.precision",
    "parents.recall",
    "parents.recall_with_child",
    "parents.f1",
    "parents.cosine",
    "children.f1",
    "children.cosine",
    "others.f1",
    "explained_variance",
    "l0",
    "l0_positive",
)


def run_toy(config: ToyConfig) -> Iterator[tuple[ToyRun, ...]]:
    """Train and score every arm with every seed, in the order in which runs are done."""
    tasks = [(config, arm, seed) for seed, arm in product(range(config.seeds), ARMS)]
    if config.workers == 1:
        yield from (run_one(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(config.workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        yield from pool.map(run_one, *zip(*tasks, strict=True))


def collect(config: ToyConfig, runs: Iterable[tuple[ToyRun, ...]]) -> ToyStudy:
    """The study made of its runs, ordered by arm and seed."""
    flat = [run for together in runs for run in together]
    return ToyStudy(config, tuple(sorted(flat, key=lambda run: (ARMS.index(run.arm), run.seed))))


def run_one(config: ToyConfig, arm: Arm, seed: int) -> tuple[ToyRun, ...]:
    """Train one arm with one seed and score it at every L0 asked for."""
    begun = time.perf_counter()
    sae, tree = train_arm(config, arm, seed)
    generator = torch.Generator().manual_seed(_EVAL_SEED + seed)
    calibration = tree.activations(tree.sample(config.eval_tokens, generator))
    truth = tree.sample(config.eval_tokens, generator)
    runs = []
    for l0 in config.eval_l0:
        l0_positive = set_threshold(sae, calibration, l0)
        facts = {"eval_l0": l0, "l0_positive": l0_positive, "seconds": time.perf_counter() - begun}
        runs.append(_score(sae, tree, truth, arm=arm, seed=seed, **facts))
    return tuple(runs)


@torch.no_grad()
def set_threshold(sae: SAE, x: Float[Tensor, "b d"], l0: float) -> float:
    """Set the inference threshold such that `l0` latents are active per token of x; gives the L0 without threshold.

    The threshold is zero where fewer than that are positive.
    """
    sae.threshold.zero_()
    values = sae.encode(x).values * sae.input_scale
    wanted = round(l0 * x.shape[0])
    if values.shape[0] > wanted:
        # Strictly above the first value that shall not count.
        sae.threshold.copy_(values.topk(wanted + 1).values[-1])
    return values.shape[0] / x.shape[0]


@torch.no_grad()
def _score(sae: SAE, tree: FeatureTree, truth: Bool[Tensor, "b t"], **facts: Any) -> ToyRun:
    x = tree.activations(truth)
    code = sae.encode(x)
    error = (x - sae.decode(code)).square().sum() / (x - x.mean(0)).square().sum()
    matching = match_by_cosine(tree.directions, sae.directions(torch.arange(sae.d_sae)))
    fires = (code.dense() > 0)[:, matching.latent]
    found = detection(fires, truth)
    parents, children = tree.parents, (~tree.roots).nonzero()[:, 0]
    others = torch.tensor([i for i in range(tree.n_features) if i not in {*parents.tolist(), *children.tolist()}])
    with_child = torch.stack([truth[:, children[tree.parent[children] == parent]].any(1) for parent in parents], dim=1)
    return ToyRun(
        parents=_group(found, matching, parents, detection(fires[:, parents], with_child).recall),
        children=_group(found, matching, children),
        others=_group(found, matching, others),
        explained_variance=1 - float(error),
        l0=code.l0(),
        threshold=float(sae.threshold),
        **facts,
    )


def _group(
    found: Detection, matching: Matching, members: Int[Tensor, " m"], recall_with_child: Tensor | None = None
) -> GroupScore:
    def mean(figure: Tensor) -> float:
        return float(figure[members].mean())

    with_child = None if recall_with_child is None else float(recall_with_child.mean())
    return GroupScore(mean(found.precision), mean(found.recall), mean(found.f1), mean(matching.cosine), with_child)


def _look_up(values: Any, dotted: str) -> float:
    for key in dotted.split("."):
        values = values[key]
    return float(values)


def _summary(values: list[float]) -> dict[str, Any]:
    return {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else None, "seeds": values}
