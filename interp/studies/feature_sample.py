"""Thirty features drawn by seed, each with how well its page tells where it fires, beside the features of null arms.

Arms: the same SAE trained on the model with shuffled weights, and with its decoder frozen as drawn; random directions
that fire as often and as strongly; the SAE itself on text whose tokens are shuffled. Every arm has its own draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dashboards.feature_contract import draw_sample
from dashboards.tokens import token_texts
from interp.runs import RunFolder
from interp.storage import write_json
from interp.studies.null_arms import TRAINED, activation_sample
from saes.base import SAE
from saes.features import FeatureSettings, FeatureStatistics, Progress, collect_features
from saes.null_arms import ShuffledTokens, matched_random_sae, trained_arms
from saes.run_parts import RunParts, open_run
from saes.token_sample import TokenSource
from saes.training import train

SCHEMA_VERSION = 1
FILE_NAME = "feature_sample.json"
MEASURES = ("detection_auc", "token_auc", "bigram_auc")
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class SampledFeature:
    """A drawn feature. The AUCs are NaN where it fires too seldom (see saes.feature_statistics)."""

    feature: int
    density: float
    fires_on: tuple[str, ...]
    detection_auc: float
    token_auc: float
    bigram_auc: float


@dataclass(frozen=True, slots=True)
class ArmSample:
    """What was drawn in one arm, from how many features that fire."""

    n_alive: int
    features: tuple[SampledFeature, ...]

    def quartiles(self, measure: str) -> tuple[float, float, float] | None:
        """Lower quartile, median and upper quartile over the drawn features with a figure; None if none has one."""
        values = [value for feature in self.features if not np.isnan(value := getattr(feature, measure))]
        if not values:
            return None
        low, middle, high = np.quantile(values, _QUARTILES).tolist()
        return low, middle, high

    def n_measured(self) -> int:
        """Drawn features that fire often enough for a detection AUC."""
        return sum(not np.isnan(feature.detection_auc) for feature in self.features)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        return {
            "n_alive": self.n_alive,
            "n_measured": self.n_measured(),
            "quartiles": {measure: self.quartiles(measure) for measure in MEASURES},
            "features": [_plain(feature) for feature in self.features],
        }


@dataclass(frozen=True, slots=True)
class FeatureSampleStudy:
    """The draw of every arm, the SAE's own under TRAINED."""

    seed: int
    n_tokens: int
    arms: dict[str, ArmSample]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        head = {"schema_version": SCHEMA_VERSION, "study": "feature-sample", "seed": self.seed}
        return head | {"n_tokens": self.n_tokens, "arms": {name: arm.to_json() for name, arm in self.arms.items()}}


def run_feature_sample(
    path: Path | str, *, seed: int = 0, n_tokens: int = 200_000, on_progress: Progress | None = None
) -> FeatureSampleStudy:
    """Draw from a finished run and its arms, training those that are not there, and write feature_sample.json into it.

    The text is the run's training split, as in its report: the detector is tried on documents it was not made from.
    Raises: ArtifactError if the run cannot be opened.
    """
    parts, settings = open_run(path), FeatureSettings(n_tokens=n_tokens)
    arms = {}
    for name, arm, sae, source in _iter_arms(parts, seed):
        statistics = collect_features(arm.model, sae, source, settings, facts=arm.facts, on_progress=on_progress)
        arms[name] = draw(statistics, token_texts(arm.model.tokenizer), seed)
    study = FeatureSampleStudy(seed, n_tokens, arms)
    write_json(RunFolder.open(path).path / FILE_NAME, study.to_json())
    return study


def draw(statistics: FeatureStatistics, texts: list[str], seed: int) -> ArmSample:
    """The same draw as the report's sample."""
    alive = np.flatnonzero(statistics.density > 0)
    return ArmSample(int(alive.size), tuple(_described(statistics, f, texts) for f in draw_sample(alive, seed)))


def _described(statistics: FeatureStatistics, feature: int, texts: list[str]) -> SampledFeature:
    tokens = tuple(texts[token] for token in statistics.firing_tokens[feature].tolist() if token >= 0)
    aucs = {measure: float(getattr(statistics, measure)[feature]) for measure in MEASURES}
    return SampledFeature(feature, float(statistics.density[feature]), tokens, **aucs)


def _iter_arms(parts: RunParts, seed: int) -> Iterator[tuple[str, RunParts, SAE, TokenSource]]:
    source = parts.stream("train")
    yield TRAINED, parts, parts.sae, source
    config = parts.config.model_copy(update={"out": parts.run.path})
    for name, arm_config in trained_arms(config, model_seed=config.seed).items():
        arm = open_run(train(arm_config, resume=True).path)
        yield name, arm, arm.sae, arm.stream("train")
    yield "matched_random", parts, matched_random_sae(parts.sae, activation_sample(parts), seed=seed), source
    yield "shuffled_tokens", parts, parts.sae, ShuffledTokens(source, seed)


def _plain(feature: SampledFeature) -> dict[str, Any]:
    values = {name: getattr(feature, name) for name in SampledFeature.__slots__}
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}
