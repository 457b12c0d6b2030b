"""A model with the text that a study looks at: to fit and calibrate on, to score on, and the words to probe.

Axes: n tokens, d width.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.code import ActivationBatch
from interp.datasets import TokenBatch, TokenStream, open_stream
from interp.errors import DataError
from interp.models import Model, load_model
from interp.recording import ProgressLines
from interp.studies.architectures_results import ProbeScore
from interp.studies.architectures_settings import StudySettings
from interp.studies.spread_sample import spread_sample
from probes.benchmark_rows import Row
from probes.concept_activations import encode_features, harvest_concept
from probes.concept_generator import bundled_concepts
from probes.concept_tasks import BinaryTask, tasks_of
from probes.concepts import ExampleSet
from probes.sparse_probing import reference_probes, sparse_probing
from probes.treebank import OTHER, treebank_concepts
from saes.base import SAE
from saes.evaluation import Evaluation, evaluate
from saes.tally import Baseline, Tally
from saes.token_sample import iter_sample

CALIBRATION_TOKENS = 16_384
_POOL = 20
"""Samples of training text are drawn from so many times as much of it, or all that was trained on."""


class Scene:
    """What all arms on one model share; each part is made when it is first asked for."""

    def __init__(self, settings: StudySettings, *, randomise: int | None = None) -> None:
        self.settings, self.randomise = settings, randomise

    @cached_property
    def model(self) -> Model:
        base = self.settings.base
        return load_model(base.model, device=base.device, dtype=base.dtype, randomise_seed=self.randomise)

    @cached_property
    def train(self) -> TokenStream:
        return open_stream(self.settings.base.dataset, self.model, self.settings.base.data, split="train")

    @cached_property
    def heldout(self) -> TokenStream:
        return open_stream(self.settings.base.dataset, self.model, self.settings.base.data, split="heldout")

    @cached_property
    def sample(self) -> Float[Tensor, "n d"]:
        """Activations of training text, to fit baselines to."""
        n_tokens = self.settings.baseline_tokens
        within = max(n_tokens, min(self.settings.base.tokens, _POOL * n_tokens))
        batches = spread_sample(self.train, n_tokens, within=within)
        return torch.cat([one.stacked(self.hooks) for one in self._harvest(batches)])

    @cached_property
    def calibration(self) -> Float[Tensor, "n d"]:
        """A part of the sample, evenly spread: rows of like length stand together."""
        return self.sample[:: max(1, self.sample.shape[0] // CALIBRATION_TOKENS)]

    @property
    def hooks(self) -> tuple[str, ...]:
        return self.settings.base.hooks_in

    def evaluate(self, sae: SAE) -> Evaluation:
        """Scores on held-out text."""
        if self.model.causal:
            return evaluate(self.model, sae, self.heldout, n_tokens=self.settings.eval_tokens)
        # An encoder has no losses to measure, so that its activations need not be harvested for each arm.
        tally = Tally(self.model, sae, self._baseline)
        for batch in self._heldout_activations:
            tally.add_activations(batch)
        return tally.evaluation(self.heldout, 0)

    @cached_property
    def _heldout_activations(self) -> list[ActivationBatch]:
        return self._harvest(iter_sample(self.heldout, self.settings.eval_tokens, seed=0))

    @cached_property
    def _baseline(self) -> Baseline:
        acts = torch.cat([batch.stacked(self.hooks) for batch in self._heldout_activations]).float().cpu()
        median = torch.linalg.vector_norm(acts, dim=1).median()
        return Baseline(acts.shape[0], acts.double().mean(0), (float(median),))

    def _harvest(self, batches: Iterable[TokenBatch]) -> list[ActivationBatch]:
        return [harvest_batch(self.model, batch, self.hooks) for batch in batches]

    @cached_property
    def tasks(self) -> list[BinaryTask]:
        """Yes-or-no questions of each concept set, with the activations of their words.

        Raises: DataError if none can be asked.
        """
        found = []
        with ProgressLines("concepts", None) as progress:
            for concept in self._concepts():
                progress.say(f"{', '.join(concept.attributes)}: {len(concept.examples):,} words")
                data = harvest_concept(self.model, concept, self.hooks)
                found += [task for task in tasks_of(data) if not task.name.endswith(f" {OTHER}")]
        if not found:
            raise DataError("concepts: no set has enough words on both sides; give a larger treebank with --ud")
        return found

    def _concepts(self) -> Sequence[ExampleSet]:
        if self.settings.concepts is None:
            return bundled_concepts(self.model.tokenizer).examples
        return treebank_concepts(self.settings.concepts, per_class=self.settings.per_class)

    def probe(self, sae: SAE) -> tuple[ProbeScore, ...]:
        """k-sparse probing of every task."""
        scores: list[ProbeScore] = []
        for acts, tasks in self._by_set():
            features = encode_features(sae, acts.to(sae.b_dec.device))
            scores += [_probe_score(row) for task in tasks for row in sparse_probing(task, features)]
        return tuple(scores)

    def reference_probes(self) -> tuple[ProbeScore, ...]:
        """The dense probe, the commoner answer and the tokens alone, for every task."""
        return tuple(_probe_score(row) for task in self.tasks for row in reference_probes(task))

    def _by_set(self) -> list[tuple[Tensor, list[BinaryTask]]]:
        grouped: dict[int, list[BinaryTask]] = {}
        for task in self.tasks:
            grouped.setdefault(id(task.data), []).append(task)
        return [(tasks[0].data.acts, tasks) for tasks in grouped.values()]


def _probe_score(row: Row) -> ProbeScore:
    return ProbeScore(row.concept, row.arm, row.n_features, row.score.value, row.score.interval)
