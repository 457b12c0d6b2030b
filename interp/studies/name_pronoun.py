"""From a name to its pronoun: which SAE features carry the gender, and is it they that decide "he" or "she"?

Features are chosen by attribution on training names and templates. On names *and* templates that were not seen, they
are taken out (their error kept), and what they write on male names less what they write on female ones is added at
rising strength. Beside them stand random sets of features that fire as often and write as much, and random directions
with the covariance of the activations.

Source: the issue's second claim; statistics as in METHODS section 10 (intervals over names, paired with the controls).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from interp.activations.blocks import ShuffleConfig
from interp.config import Config
from interp.counts import TokenCount
from interp.datasets import DataConfig, open_stream
from interp.directions import covariance_matched
from interp.effects import Estimate
from interp.errors import ConfigError
from interp.loop import Schedule
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE
from interp.recording import Recording
from interp.side_effects import neutral_rows
from interp.steering import dose_response
from interp.steering_results import DoseResponse
from interp.storage import make_folder, write_json
from interp.studies.name_pronoun_features import (
    Ablation,
    ablate,
    choose_features,
    right,
    scene_of,
    swap_controls,
    swap_direction,
)
from interp.studies.name_pronoun_prompts import (
    NAME,
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    load_names,
    named_prompts,
    split_names,
)
from saes import SAEConfig, TrainConfig, open_run, train

FILE_NAME = "name_pronoun.json"
SCHEMA_VERSION = 1
STRENGTHS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
_NEUTRAL_DOCUMENTS = 200

Progress = Callable[[str, int, int], None]


class NamePronounConfig(Config):
    """Settings of the study."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    hook: str = "blocks.1.hook_resid_post"
    """Where the SAE looks: a TransformerLens name."""
    run: Path | None = None
    """Run folder of a trained SAE to use instead of training one; its model, text and hook count."""
    tokens: TokenCount = 300_000
    """Tokens to train the SAE on."""
    d_sae: int = Field(1024, ge=8)
    """Number of features."""
    k: int = Field(16, ge=1)
    """Active features per token."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    names: Path | None = None
    """Folder or zip of female.txt and male.txt instead of the bundled names."""
    least: int = Field(5, ge=1)
    """How often a name must occur in the first 3,000 documents."""
    n_names: int = Field(12, ge=4)
    """At most so many names of each gender to train on, and as many others to test on."""
    sizes: tuple[int, ...] = (1, 3, 10)
    """How many of the strongest features to take out."""
    controls: int = Field(100, ge=2)
    """Random sets of features, and random directions, to hold them against."""
    seed: int = Field(0, ge=0)
    """Seed of everything that is drawn."""
    out: Path = Path("runs/name_pronoun")
    """Folder for the SAE and what was found."""

    @property
    def train_config(self) -> TrainConfig:
        """The SAE's training run."""
        return TrainConfig(
            model=self.model,
            dataset=self.dataset,
            hook=self.hook,
            tokens=self.tokens,
            out=self.out / "sae",
            seed=self.seed,
            batch_size=512,
            sae=SAEConfig(architecture="batch_topk", d_sae=self.d_sae, k=self.k),
            schedule=Schedule(lr=self.lr),
            recording=Recording(checkpoint_every=100_000),
            shuffle=ShuffleConfig(block_tokens=min(ShuffleConfig().block_tokens, self.tokens)),
            data=DataConfig(batch_tokens=4096),
        )


@dataclass(frozen=True, slots=True)
class NamePronounStudy:
    """What the features do on names and templates that did not choose them.

    Units: accuracy is the share of prompts on which the model prefers the name's own pronoun; attribution in logits.
    """

    config: Mapping[str, Any]
    model: str
    hook: str
    names: Mapping[str, Mapping[str, tuple[str, ...]]]
    accuracy: Mapping[str, float]
    features: tuple[int, ...]
    attribution: tuple[float, ...]
    ablations: tuple[Ablation, ...]
    dose: DoseResponse

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "study": "name-pronoun",
            "config": dict(self.config),
            "model": self.model,
            "hook": self.hook,
            "templates": {"train": list(TRAIN_TEMPLATES), "test": list(TEST_TEMPLATES)},
            "names": {side: {g: list(names) for g, names in held.items()} for side, held in self.names.items()},
            "accuracy": dict(self.accuracy),
            "features": list(self.features),
            "attribution": list(self.attribution),
            "ablations": [_ablation(found) for found in self.ablations],
            "dose": self.dose.to_json(),
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all.

        Raises: StorageError.
        """
        write_json(path, self.to_json())


def _ablation(found: Ablation) -> dict[str, Any]:
    return {
        "n_features": found.n_features,
        **{name: _plain(getattr(found, name)) for name in ("before", "change", "gap")},
        "controls": found.controls.tolist(),
        "p": found.p,
    }


def _plain(estimate: Estimate) -> dict[str, Any]:
    interval = None if estimate.interval is None else estimate.interval.tolist()
    return {"value": float(estimate.value), "interval": interval}


def run_name_pronoun(config: NamePronounConfig, *, on_progress: Progress | None = None) -> NamePronounStudy:
    """Train the SAE unless it is there, choose features, judge them, and write name_pronoun.json.

    Raises: DataError if the text holds too few of the names; ConfigError for sizes that are not positive.
    """
    if not config.sizes or min(config.sizes) < 1:
        raise ConfigError(f"sizes: got {list(config.sizes)}; expected numbers of features, from 1 on")
    make_folder(config.out)
    parts = open_run(config.run or train(config.train_config, resume=True).path, device="cpu")
    model, sae, dataset = parts.model, parts.sae, parts.config.dataset
    names = split_names(load_names(config.names), dataset, least=config.least, n=config.n_names, seed=config.seed)
    seen, held = named_prompts(model, names[0], TRAIN_TEMPLATES), named_prompts(model, names[1], TEST_TEMPLATES)
    most = max(config.sizes)
    chosen = choose_features(model, sae, seen, most)
    scene = scene_of(model, parts.config.hook, held)
    ablations = []
    for size in config.sizes:
        ablations.append(ablate(scene, sae, held, chosen, size, n_controls=config.controls, seed=config.seed))
        if on_progress is not None:
            on_progress("ablation", len(ablations), len(config.sizes))
    dose = dose_response(
        model,
        swap_direction(sae, chosen, most),
        held.prompts,
        LOGIT_DIFFERENCE,
        strengths=STRENGTHS,
        controls={
            "matched features": swap_controls(sae, chosen, most, config.controls, config.seed),
            "covariance-matched": covariance_matched(chosen.reached, config.controls, seed=config.seed),
        },
        position=NAME,
        onwards=True,
        neutral=neutral_rows(model, _heldout_texts(model, dataset), n_rows=8, n_tokens=48),
        on_progress=on_progress,
    )
    study = NamePronounStudy(
        config.model_dump(mode="json"),
        model.name,
        parts.config.hook,
        {side: {g: tuple(n) for g, n in dealt.items()} for side, dealt in zip(("train", "test"), names, strict=True)},
        {
            "train": float(right(seen, scene_of(model, parts.config.hook, seen)).mean()),
            "test": float(right(held, scene).mean()),
        },
        tuple(chosen.features.tolist()),
        tuple(chosen.attribution.tolist()),
        tuple(ablations),
        dose,
    )
    study.save(config.out / FILE_NAME)
    return study


def _heldout_texts(model: Model, dataset: str) -> list[str]:
    stream = open_stream(dataset, model, DataConfig(batch_tokens=2048), split="heldout")
    found: list[str] = []
    for batch in stream.iter_pass():
        found += model.tokenizer.batch_decode(batch.token_ids, skip_special_tokens=True)
        if len(found) >= _NEUTRAL_DOCUMENTS:
            break
    return found
