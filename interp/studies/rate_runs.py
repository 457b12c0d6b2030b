"""Runs on the same activations as points of rate and distortion, with what they cost the model and tell of concepts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dashboards.watch_run import run_folders
from interp.activations.harvest import harvest_batch
from interp.code import FeatureDictionary
from interp.datasets import TokenStream
from interp.errors import ConfigError
from interp.models import Model
from interp.runs import source_commit, this_command
from probes.benchmark_rows import FEATURES
from probes.concept_activations import encode_features, harvest_concept
from probes.concept_generator import bundled_concepts
from probes.concept_tasks import BinaryTask, tasks_of
from probes.sparse_probing import sparse_probing
from probes.treebank import OTHER
from saes.base import SAE
from saes.config import CODEBOOK
from saes.evaluation import evaluate
from saes.features import FeatureSettings, collect_features
from saes.null_arms import untrained_arms
from saes.rate import ValueQuantiser, gaussian_explained
from saes.rate_arms import Kind, RateArm
from saes.rate_curve import VALUE_BITS, QuantisedDictionary, rate_curve, variances_of
from saes.rate_names import dictionary_names
from saes.rate_results import RateDistortion
from saes.run_parts import RunParts, open_run
from saes.token_sample import iter_sample

Progress = Callable[[str, int, int], None]
PROBED = (1, 5)
GAUSSIAN_POINTS = 60


@dataclass(frozen=True, slots=True)
class RateSettings:
    """What is measured beside bits and explained variance, and on how much text.

    Units: held-out tokens; none for ΔCE (ce_tokens) or detection (detection_tokens) leaves that unmeasured.
    """

    tokens: int = 20_000
    ce_tokens: int = 10_000
    detection_tokens: int = 0
    probe: bool = False
    null_arms: bool = False
    value_bits: Sequence[int] = VALUE_BITS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What stands in the figure under a name, from one seed."""

    arm: str
    name: str
    kind: Kind
    path: str
    seed: int
    sae: SAE


def run_rates(
    paths: Sequence[Path],
    settings: RateSettings,
    *,
    model_name: str | None = None,
    device: str = "auto",
    on_progress: Progress | None = None,
) -> RateDistortion:
    """Measure runs, or all runs of sweeps, of one model and hook on the held-out text of the first.

    Raises: ArtifactError if a run cannot be opened; ConfigError if one is given twice, or they differ in model, hook or
    rows.
    """
    folders = [folder for path in paths for folder in run_folders(path)]
    _check_different(folders)
    opened = [open_run(folder, model_name=model_name, device=device) for folder in folders]
    _check_alike(opened)
    scene = RateScene(opened[0], settings)
    dictionaries = [
        one for parts, label in zip(opened, _labels(opened), strict=True) for one in _dictionaries(parts, label, scene)
    ]
    arms = []
    for index, one in enumerate(dictionaries):
        arms.append(scene.measure(one))
        if on_progress:
            on_progress("rate", index + 1, len(dictionaries))
    return RateDistortion(tuple(arms), scene.gaussian(arms), scene.facts())


class RateScene:
    """The text and the words that all dictionaries are measured on."""

    def __init__(self, parts: RunParts, settings: RateSettings) -> None:
        self.parts, self.settings = parts, settings
        self.model: Model = parts.model
        self.stream: TokenStream = parts.stream("heldout")
        self.hooks = parts.sae.hooks_in
        batches = [
            harvest_batch(self.model, batch, self.hooks)
            for batch in iter_sample(self.stream, settings.tokens, seed=settings.seed)
        ]
        self.acts: Float[Tensor, "n d"] = torch.cat([batch.stacked(self.hooks) for batch in batches]).float()
        self.document: Int[Tensor, " n"] = torch.cat([batch.document for batch in batches])
        self.tasks: list[BinaryTask] = self._tasks() if settings.probe else []

    def _tasks(self) -> list[BinaryTask]:
        concepts = bundled_concepts(self.model.tokenizer).examples
        found = [task for one in concepts for task in tasks_of(harvest_concept(self.model, one, self.hooks))]
        return [task for task in found if not task.name.endswith(f" {OTHER}")]

    def measure(self, one: Dictionary) -> RateArm:
        """Everything that was asked for of one dictionary."""
        curve, quantisers = rate_curve(one.sae, self.acts, self.document, value_bits=self.settings.value_bits)
        arm = RateArm(one.arm, one.name, one.kind, one.path, curve, one.seed)
        if one.kind == "null":
            return arm
        arm = self._costed(arm, one.sae, quantisers[curve.chosen.value_bits])
        return self._detected(arm, one.sae)

    def _costed(self, arm: RateArm, sae: SAE, quantiser: ValueQuantiser) -> RateArm:
        """ΔCE and probing with the values that arrive."""
        quantised = QuantisedDictionary(sae, quantiser)
        probing = self._probed(quantised)
        if not self.settings.ce_tokens or not self.model.causal:
            return replace(arm, probing=probing)
        found = evaluate(self.model, quantised, self.stream, n_tokens=self.settings.ce_tokens, seed=self.settings.seed)
        if found.ce is None:
            return replace(arm, probing=probing)
        ce = found.ce
        return replace(arm, probing=probing, ce_delta=ce.delta, ce_delta_interval=ce.delta_interval, kl=ce.kl)

    def _probed(self, dictionary: FeatureDictionary) -> Mapping[str, float]:
        accuracy: dict[int, list[float]] = {k: [] for k in PROBED}
        held: dict[int, Any] = {}
        for task in self.tasks:
            if id(task.data) not in held:
                held[id(task.data)] = encode_features(dictionary, task.data.acts.to(self.acts))
            for row in sparse_probing(task, held[id(task.data)], ks=PROBED, seed=self.settings.seed):
                if row.arm == FEATURES and row.n_features is not None:
                    accuracy[row.n_features].append(row.score.value)
        return {str(k): fmean(values) for k, values in accuracy.items() if values}

    def _detected(self, arm: RateArm, sae: SAE) -> RateArm:
        """How well what is shown of a feature tells where it fires on other text; values play no part in that."""
        if not self.settings.detection_tokens:
            return arm
        asked = FeatureSettings(n_tokens=self.settings.detection_tokens, seed=self.settings.seed)
        found = collect_features(self.model, sae, self.stream, asked).detection_auc
        measured = found[np.isfinite(found)]
        median = float(np.median(measured)) if measured.size else None
        return replace(arm, detection_auc=median, detection_measured=measured.size / found.size)

    def gaussian(self, arms: Sequence[RateArm]) -> tuple[tuple[float, float], ...]:
        """The bound for a Gaussian of the same covariance, over the bits that were met."""
        variances = variances_of(self.acts)
        most = max(point.bits for arm in arms for point in arm.curve.points)
        at = np.geomspace(1.0, max(most, 2.0), GAUSSIAN_POINTS).tolist()
        return tuple((float(bits), gaussian_explained(variances, bits)) for bits in at)

    def facts(self) -> dict[str, Any]:
        """Where the figures come from."""
        return {
            "model": self.model.facts,
            "hook": self.hooks[0],
            "data": self.stream.facts,
            "n_tokens": self.acts.shape[0],
            "n_documents": int(self.document.unique().numel()),
            "ce_tokens": self.settings.ce_tokens if self.model.causal else 0,
            "detection_tokens": self.settings.detection_tokens,
            "concepts": len(self.tasks),
            "seed": self.settings.seed,
            "command": this_command(),
            "commit": source_commit(),
        }


def _dictionaries(parts: RunParts, label: str, scene: RateScene) -> list[Dictionary]:
    """The run's own and, if they are wanted, null arms made of it."""
    baseline, path, seed = _baseline(parts), str(parts.run.path), parts.config.seed
    kind: Kind = "baseline" if baseline else "trained"
    found = [Dictionary(baseline or arm_name(parts), label, kind, path, seed, parts.sae)]
    if scene.settings.null_arms and not baseline:
        made = untrained_arms(parts.sae, scene.acts, seed=scene.settings.seed)
        named = {what.replace("_", " "): sae for what, sae in made.items()}
        found += [Dictionary(what, f"{label}, {what}", "null", path, seed, sae) for what, sae in named.items()]
    return found


def _baseline(parts: RunParts) -> str | None:
    """What a run holds that no network learned."""
    results = parts.run.manifest().results
    return str(results["architecture"]) if "baseline" in results else None


def _labels(opened: Sequence[RunParts]) -> list[str]:
    """Architecture, k and features of each run, and what else tells it from others of these that are no seed of it."""
    plain = [f"{_baseline(p) or arm_name(p)} k{p.config.sae.k} of {p.config.sae.d_sae:,}" for p in opened]
    return dictionary_names(plain, [p.config for p in opened], [p.run.path for p in opened])


def arm_name(parts: RunParts) -> str:
    """What one line stands for: an architecture, of a codebook its variant too."""
    sae = parts.config.sae
    return f"{sae.architecture} {sae.codebook_variant}" if sae.architecture == CODEBOOK else sae.architecture


def _check_different(folders: Sequence[Path]) -> None:
    """Raises: ConfigError if a run is given twice: it would count as two seeds."""
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(f"{folder}: got it twice; expected every run once, by itself or with its sweep")
        seen.add(folder.resolve())


def _check_alike(opened: Sequence[RunParts]) -> None:
    """Raises: ConfigError if the runs do not look at the same activations."""
    first = opened[0]
    for other in opened[1:]:
        for what, one, two in (
            ("model", first.model.content_hash[:12], other.model.content_hash[:12]),
            ("hook", first.sae.hooks_in, other.sae.hooks_in),
            *_text_of(first, other),
            *_rows_of(first, other),
        ):
            if one != two:
                raise ConfigError(
                    f"{other.run.path}: has {what} {two}, {first.run.path} has {one}; give runs on the same activations"
                )


def _text_of(first: RunParts, other: RunParts) -> list[tuple[str, str, str]]:
    """The data sets of both runs; nothing where one text goes by two names, such as a relative and a full path."""
    one, two = (parts.run.manifest().data.get("content_hash") for parts in (first, other))
    return [] if one is not None and one == two else [("dataset", first.config.dataset, other.config.dataset)]


def _rows_of(first: RunParts, other: RunParts) -> list[tuple[str, Any, Any]]:
    """Each setting that decides which rows of tokens are seen, of both runs."""
    one, two = (parts.config.data.model_dump() for parts in (first, other))
    return [(f"data.{name}", one[name], two[name]) for name in one if name not in _NOT_OF_ROWS]


# How many rows are read at once, and what is looked up beside them.
_NOT_OF_ROWS = ("batch_tokens", "overlap_documents")
