"""Concept benchmarks of finished runs: SAEs of one config and several seeds, beside the neurons of the same hook."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interp.activations.harvest import harvest_batch
from interp.datasets import DataConfig, open_stream
from interp.errors import ConfigError
from probes.benchmark_rows import FEATURES, Pooled
from probes.concept_benchmarks import MEASURES, ConceptBenchmark, ConceptReport, Progress, concept_report
from probes.concept_files import load_concepts
from probes.concept_generator import bundled_concepts
from probes.neurons import NeuronDictionary
from saes import OpenedSAE, open_sae
from saes.token_sample import iter_sample

SCHEMA_VERSION = 1
_BATCH_TOKENS = 1024
LEARNED, NEURONS = "features", "neurons"


@dataclass(frozen=True, slots=True)
class ConceptStudy:
    """Figures of the SAEs (under LEARNED) and of the neurons, on the same concepts."""

    runs: tuple[str, ...]
    concepts: str
    n_tokens: int
    seed: int
    arms: dict[str, ConceptReport]

    def rows(self, measure: str) -> Iterator[tuple[str, Pooled]]:
        """Figures of one measure with the arm that they are shown under; of the neurons, their features' alone."""
        yield from ((row.arm, row) for row in self.arms[LEARNED].of(measure))
        yield from ((NEURONS, row) for row in self.arms[NEURONS].of(measure) if row.arm == FEATURES)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": list(self.runs),
            "concepts": self.concepts,
            "n_tokens": self.n_tokens,
            "seed": self.seed,
            "arms": {name: report.to_json() for name, report in self.arms.items()},
        }


def run_concepts(
    paths: Sequence[Path],
    *,
    concepts_file: Path | None = None,
    measures: Sequence[str] = MEASURES,
    tokens: int = 4000,
    seed: int = 0,
    model_name: str | None = None,
    on_progress: Progress | None = None,
) -> ConceptStudy:
    """Measure runs of one config.

    Raises: ArtifactError if a run cannot be opened; ConfigError if they differ in model, hook or size; DataError for a
    malformed file of concepts.
    """
    opened = [open_sae(path, model_name=model_name) for path in paths]
    _check_alike(opened)
    first = opened[0]
    concepts = bundled_concepts(first.model.tokenizer) if concepts_file is None else load_concepts(concepts_file)
    # Small batches: a sample is made of whole ones.
    rows = DataConfig.parse(first.rows.model_dump() | {"batch_tokens": _BATCH_TOKENS})
    stream = open_stream(str(first.facts.data.get("dataset", "embedded")), first.model, rows, split="heldout")
    text = list(iter_sample(stream, tokens, seed=seed))
    hooks = first.sae.hooks_in
    benchmark = ConceptBenchmark(first.model, concepts, hooks, text=text, seed=seed)
    acts = torch.cat([harvest_batch(first.model, batch, hooks).stacked(hooks) for batch in text])
    neurons = NeuronDictionary(hooks, acts.mean(0))
    arms = {
        LEARNED: concept_report(benchmark, [one.sae for one in opened], measures=measures, on_progress=on_progress),
        NEURONS: concept_report(
            benchmark,
            [neurons],
            measures=measures,
            on_progress=on_progress and (lambda _, done, total: on_progress(NEURONS, done, total)),
        ),
    }
    source = "bundled" if concepts_file is None else str(concepts_file)
    return ConceptStudy(tuple(str(path) for path in paths), source, tokens, seed, arms)


def _check_alike(opened: Sequence[OpenedSAE]) -> None:
    """Raises: ConfigError if the runs are not seeds of one config."""
    first = opened[0]
    for other in opened[1:]:
        for what, one, two in (
            ("model", first.model.content_hash[:12], other.model.content_hash[:12]),
            ("hook", first.sae.hooks_in, other.sae.hooks_in),
            ("architecture", first.sae.config.architecture, other.sae.config.architecture),
            ("d_sae", first.sae.d_sae, other.sae.d_sae),
            ("k", first.sae.config.k, other.sae.config.k),
        ):
            if one != two:
                raise ConfigError(
                    f"{other.path}: has {what} {two}, {first.path} has {one}; give runs of one config that differ in "
                    "their seed"
                )
