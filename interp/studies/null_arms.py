"""An SAE's scores beside those of arms that keep everything but what was learned.

Two arms are trained like the SAE: on the model with shuffled weights, and with the decoder frozen as drawn. Two are
made from it: its decoder rows permuted, and random directions that fire as often and as strongly. The last is the SAE
itself on text whose tokens are shuffled. All are scored on held-out text.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from statistics import fmean, stdev
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.harvest import harvest_batch
from interp.errors import ConfigError
from interp.runs import RunFolder
from interp.storage import write_json
from saes.evaluate_run import evaluate_parts, write_evaluation
from saes.evaluation import ArmScore, Evaluation, evaluate
from saes.null_arms import ShuffledTokens, trained_arms, untrained_arms, with_null_arms
from saes.run_parts import RunParts, open_run
from saes.token_sample import iter_sample
from saes.training import TrainConfig, train

SCHEMA_VERSION = 1
FILE_NAME = "null_arms.json"
TRAINED = "this SAE"
_SAMPLE_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class NullArmsStudy:
    """Scores of the SAE (under TRAINED) and of its null arms, one per seed."""

    n_tokens: int
    seeds: tuple[int, ...]
    scores: Mapping[str, tuple[ArmScore, ...]]

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Per arm and metric: mean, standard deviation over seeds (None for one seed) and each seed's figure."""
        metrics = [field.name for field in fields(ArmScore)]
        return {
            arm: {metric: _summary([getattr(score, metric) for score in scores]) for metric in metrics}
            for arm, scores in self.scores.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "null-arms",
            "n_tokens": self.n_tokens,
            "seeds": list(self.seeds),
            "arms": self.summary(),
        }


def run_null_arms(config: TrainConfig, *, n_seeds: int = 1, n_tokens: int = 100_000) -> NullArmsStudy:
    """Train what is not trained yet, score every arm, and write the comparison into the run folder.

    null_arms.json holds all seeds; evaluation.json is the first seed's, with its null arms beside it. The first seed is
    the config's own; the runs of the others lie under null_arms/.
    """
    if config.activations is not None:
        raise ConfigError("activations: the arm with shuffled weights needs the model; leave --activations out")
    seeds = tuple(range(config.seed, config.seed + n_seeds))
    scores: dict[str, list[ArmScore]] = defaultdict(list)
    for seed in seeds:
        folder = config.out if seed == config.seed else config.out / "null_arms" / f"seed_{seed}"
        run = train(config.model_copy(update={"seed": seed, "out": folder}), resume=True)
        evaluation = evaluate_with_arms(run, n_tokens=n_tokens)
        for arm, score in {TRAINED: evaluation.as_arm(), **evaluation.null_arms}.items():
            scores[arm].append(score)
    study = NullArmsStudy(n_tokens, seeds, {arm: tuple(found) for arm, found in scores.items()})
    write_json(config.out / FILE_NAME, study.to_json())
    return study


def evaluate_with_arms(run: RunFolder, *, n_tokens: int) -> Evaluation:
    """Evaluate a finished run and its null arms, and write evaluation.json with all of them into its folder."""
    parts = open_run(run.path)
    own = write_evaluation(parts, n_tokens=n_tokens)
    both = with_null_arms(own, dict(_iter_arms(parts, n_tokens)))
    write_json(run.evaluation_path, both.to_json())
    return both


def _iter_arms(parts: RunParts, n_tokens: int) -> Iterator[tuple[str, Evaluation]]:
    config = parts.config.model_copy(update={"out": parts.run.path})
    for name, arm_config in trained_arms(config, model_seed=config.seed).items():
        arm = train(arm_config, resume=True)
        yield name, evaluate_parts(open_run(arm.path), n_tokens=n_tokens)
    heldout, seed = parts.stream("heldout"), config.seed
    for name, sae in untrained_arms(parts.sae, activation_sample(parts), seed=seed).items():
        yield name, evaluate(parts.model, sae, heldout, n_tokens=n_tokens, facts=parts.facts)
    shuffled = ShuffledTokens(heldout, seed)
    yield "shuffled_tokens", evaluate(parts.model, parts.sae, shuffled, n_tokens=n_tokens, facts=parts.facts)


def activation_sample(parts: RunParts) -> Float[Tensor, "n d"]:
    """Activations of some training text, from which random directions learn how often and strongly to fire."""
    hooks = parts.sae.hooks_in
    batches = iter_sample(parts.stream("train"), _SAMPLE_TOKENS, seed=parts.config.seed)
    return torch.cat([harvest_batch(parts.model, batch, hooks).stacked(hooks) for batch in batches])


def _summary(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"mean": None, "sd": None, "seeds": values}
    return {"mean": fmean(known), "sd": stdev(known) if len(known) > 1 else None, "seeds": values}
