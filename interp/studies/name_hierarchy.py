"""Do nested prefixes keep a general feature that others absorb into specific ones, on real concepts?

The parent is "a person's name", and below it "a female name" and "a male name"; the children are single names. Each
dictionary gets one threshold, set on text that is not scored, such that all have the same number of active latents.
For each parent the one latent with the best F1 on that text is scored on held-out documents: precision, recall, and
the names on which it is silent (holes: what absorption leaves). Beside them: an SAE with its decoder frozen as drawn,
an untrained one, the neurons at their best threshold, and a logistic probe, which sees everything.

Axes: n tokens, d width.
Source: Bussmann et al. 2025 (arXiv 2503.17547), which claims less absorption for Matryoshka SAEs at equal L0.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from interp.activations.collect import CollectConfig, collect
from interp.config import Config
from interp.counts import TokenCount
from interp.datasets import DataConfig, open_stream
from interp.errors import DataError
from interp.loop import Schedule
from interp.models import load_model
from interp.storage import write_json
from interp.studies.name_hierarchy_arms import (
    CALIBRATION_TOKENS,
    HierarchyText,
    score_neurons,
    score_probe,
    score_sae,
    spread_out,
)
from interp.studies.name_hierarchy_results import TRAINED, Arm, ArmRun, NameHierarchyStudy
from probes.concept_files import load_concepts
from probes.concept_generator import names_hierarchy
from probes.concepts import Hierarchy
from saes import SAE, SAEConfig, TrainConfig, create_sae, initialise, load_sae, train

FILE_NAME = "name_hierarchy.json"

Progress = Callable[[str, int, int], None]


class NameHierarchyConfig(Config):
    """Settings of the study."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    hook: str = "blocks.2.hook_resid_post"
    """Where the SAEs look: a TransformerLens name."""
    tokens: TokenCount = 300_000
    """Tokens to train each SAE on."""
    seeds: int = Field(5, ge=1)
    """Runs of each architecture, from seed 0 on."""
    d_sae: int = Field(1024, ge=2)
    """Number of features."""
    k: int = Field(16, ge=1)
    """Active features per token in training."""
    eval_l0: float = Field(16.0, gt=0)
    """Active features per token at which all dictionaries are scored."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    batch_size: int = Field(512, ge=1)
    """Tokens per step."""
    eval_tokens: TokenCount = 100_000
    """Tokens on which features are chosen, and at most as many held-out ones to score on."""
    heldout_share: float = Field(0.1, gt=0, lt=1)
    """Share of the documents kept for scoring."""
    names: Path | None = None
    """File of concepts with a hierarchy to use instead of the bundled names (.jsonl or .yaml)."""
    out: Path = Path("runs/name_hierarchy")
    """Folder of the runs; finished ones are used again."""

    @property
    def data(self) -> DataConfig:
        return DataConfig(heldout_share=self.heldout_share)

    def run_config(self, arm: Arm, seed: int) -> TrainConfig:
        """The training run of one arm and seed."""
        architecture = "matryoshka" if arm == "matryoshka" else "batch_topk"
        return TrainConfig.parse(
            {
                "model": self.model,
                "dataset": self.dataset,
                "hook": self.hook,
                "tokens": self.tokens,
                "out": self.out / arm / f"seed_{seed}",
                "activations": self.out / "activations",
                "seed": seed,
                "batch_size": self.batch_size,
                "freeze_decoder": arm == "frozen_decoder",
                "sae": SAEConfig(architecture=architecture, d_sae=self.d_sae, k=self.k),
                "data": self.data,
                "schedule": Schedule(lr=self.lr),
            }
        )


def run_name_hierarchy(config: NameHierarchyConfig, *, on_progress: Progress | None = None) -> NameHierarchyStudy:
    """Train what is not trained yet, score every arm, and write name_hierarchy.json into the folder of the runs.

    Raises: DataError if the text holds too few of the names.
    """
    hierarchy = _hierarchy(config.names)
    model = load_model(config.model)
    stream = open_stream(config.dataset, model, config.data)
    text = HierarchyText.of(model, hierarchy, stream, config.hook, n_tokens=config.eval_tokens)
    collect(
        CollectConfig(
            model=config.model,
            dataset=config.dataset,
            hooks=(config.hook,),
            tokens=config.tokens,
            out=config.out / "activations",
            data=config.data,
        ),
        resume=True,
    )
    runs: list[ArmRun] = []
    for arm, seed, score in _tasks(config, text):
        runs.append(score())
        if on_progress is not None:
            on_progress(f"{arm} seed {seed}", len(runs), _n_runs(config))
    study = NameHierarchyStudy(
        config.model_dump(mode="json"), text.score.acts.shape[0], text.occurrences(), tuple(runs)
    )
    write_json(config.out / FILE_NAME, study.to_json())
    return study


def _hierarchy(path: Path | None) -> Hierarchy:
    if path is None:
        return names_hierarchy()
    found = load_concepts(path).hierarchies
    if not found:
        raise DataError(f"{path}: holds no hierarchy; expected a record of kind hierarchy with parent and children")
    return found[0]


def _n_runs(config: NameHierarchyConfig) -> int:
    return (len(TRAINED) + 1) * config.seeds + 2


def _tasks(config: NameHierarchyConfig, text: HierarchyText) -> Iterator[tuple[Arm, int, Callable[[], ArmRun]]]:
    for seed in range(config.seeds):
        for arm in TRAINED:
            yield arm, seed, lambda arm=arm, seed=seed: _score_trained(config, arm, seed, text)  # type: ignore[misc]
        yield (
            "untrained",
            seed,
            lambda seed=seed: score_sae(  # type: ignore[misc]
                _untrained(config, text.choose.acts, seed), "untrained", seed, text, config.eval_l0
            ),
        )
    yield "neurons", 0, lambda: score_neurons(text)
    yield "dense_probe", 0, lambda: score_probe(text)


def _score_trained(config: NameHierarchyConfig, arm: Arm, seed: int, text: HierarchyText) -> ArmRun:
    run = train(config.run_config(arm, seed), resume=True)
    return score_sae(load_sae(run.sae, device="cpu"), arm, seed, text, config.eval_l0)


def _untrained(config: NameHierarchyConfig, sample: Float[Tensor, "n d"], seed: int) -> SAE:
    sae = create_sae(config.run_config("batch_topk", seed).sae, sample.shape[1], hooks_in=(config.hook,))
    initialise(sae, spread_out(sample, CALIBRATION_TOKENS), seed=seed)
    return sae
