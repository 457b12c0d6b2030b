"""Can the tools find a rule whose mechanism is known, and find nothing where there is none?

A rule is planted into the embedded model (see planted_organism). On stories and words that nothing was chosen by,
patching must lead from the trigger word to the trained block's attention, and show nothing at the cue below it; a
probe must read the rule at the cue from that block on; and one SAE feature there must carry what the block itself
brings: silent without, missed when it is ablated, brought in by steering.
In the twin, which writes the payload as often at random, none of it may appear.

Source: model organisms with known mechanisms; the null arms of METHODS section 10.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from interp.activations.blocks import ShuffleConfig
from interp.config import Config
from interp.counts import TokenCount
from interp.loop import Schedule
from interp.models import Model, load_model
from interp.recording import Recording
from interp.storage import make_folder, write_text
from interp.studies.planted_evidence import PlantedText, look_at, words_of
from interp.studies.planted_organism import (
    OTHERS,
    TRIGGERS,
    Carrier,
    Planting,
    carriers,
    pairs_of,
    plant,
    with_word,
)
from interp.studies.planted_results import PLANTED, TWIN, PlantedArm, PlantedStudy
from saes import SAEConfig, TrainConfig, load_sae, train

FILE_NAME = "planted_rule.json"
_WORDS_SEEN = 5
_VARIANTS = 4

Progress = Callable[[str, int, int], None]


class PlantedConfig(Config):
    """Settings of the study."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name; its words must be in the vocabulary."""
    dataset: str = "embedded"
    """Stories: "embedded", a file, a folder of them, or a hub name."""
    layer: int = Field(2, ge=1)
    """Block whose attention is trained to carry the rule."""
    steps: int = Field(150, ge=1)
    """Steps of finetuning, of 32 rows each."""
    lr: float = Field(3e-3, gt=0)
    """Peak learning rate of finetuning."""
    stories: int = Field(400, ge=10)
    """Stories to plant with and choose by."""
    pairs: int = Field(120, ge=10)
    """Held-out stories to judge on, each with a trigger and with another word."""
    d_sae: int = Field(512, ge=8)
    """Features of the SAE trained on each model."""
    k: int = Field(16, ge=1)
    """Active features per token."""
    tokens: TokenCount = 120_000
    """Tokens to train each SAE on."""
    controls: int = Field(100, ge=2)
    """Random features, and random directions, to hold the feature against."""
    seed: int = Field(0, ge=0)
    """Seed of everything that is drawn."""
    out: Path = Path("runs/planted_rule")
    """Folder for the models, the SAEs and what was found."""


def run_planted_rule(config: PlantedConfig, *, on_progress: Progress | None = None) -> PlantedStudy:
    """Plant the rule, make the twin, look at both, and write planted_rule.json.

    Raises: DataError if the stories hold too few cues, or a word is not one token.
    """
    model = load_model(config.model, device="cpu")
    seen = carriers(model, config.dataset, heldout=False, most=config.stories)
    held = carriers(model, config.dataset, heldout=True, most=config.pairs)
    split = [words[:_WORDS_SEEN] for words in (TRIGGERS, OTHERS)], [words[_WORDS_SEEN:] for words in (TRIGGERS, OTHERS)]
    text = PlantedText(
        pairs_of(model, seen[: 2 * config.pairs], *split[0]),
        pairs_of(model, held, *split[1]),
        words_of(len(held), split[1]),
    )
    planting = Planting(config.layer, config.steps, lr=config.lr, seed=config.seed)
    make_folder(config.out)
    dataset = _write_text(config, model, seen)
    arms: dict[str, PlantedArm] = {}
    for name in (PLANTED, TWIN):

        def tell(done: int, total: int, name: str = name) -> None:
            if on_progress is not None:
                on_progress(f"finetuning, {name}", done, total)

        organism = plant(model, seen, planting, rule=name == PLANTED, on_progress=tell)
        arms[name] = _arm(config, name, organism, text, dataset)
    study = PlantedStudy(config.model_dump(mode="json"), config.layer, len(held), arms)
    study.save(config.out / FILE_NAME)
    return study


def _arm(config: PlantedConfig, name: str, organism: Model, text: PlantedText, dataset: Path) -> PlantedArm:
    folder = config.out / name / "model"
    organism.hf.save_pretrained(folder)
    organism.tokenizer.save_pretrained(folder)
    run = train(_sae_config(config, folder, dataset, config.out / name / "sae"), resume=True)
    dictionary = load_sae(run.sae, device="cpu")
    return look_at(organism, name, text, dictionary, n_controls=config.controls, seed=config.seed)


def _sae_config(config: PlantedConfig, model: Path, dataset: Path, out: Path) -> TrainConfig:
    return TrainConfig(
        model=str(model),
        dataset=str(dataset),
        hook=f"blocks.{config.layer}.hook_resid_post",
        tokens=config.tokens,
        out=out,
        seed=config.seed,
        batch_size=512,
        device="cpu",
        sae=SAEConfig(architecture="batch_topk", d_sae=config.d_sae, k=config.k),
        schedule=Schedule(lr=2e-3),
        recording=Recording(checkpoint_every=100_000),
        shuffle=ShuffleConfig(block_tokens=min(ShuffleConfig().block_tokens, config.tokens)),
    )


def _write_text(config: PlantedConfig, model: Model, seen: Sequence[Carrier]) -> Path:
    """Text on which the rule is at work, or would be: every story with several words put in."""
    draw = random.Random(config.seed)
    lines = []
    for carrier in seen:
        for word in draw.sample((*TRIGGERS, *OTHERS), _VARIANTS):
            ids, _ = with_word(model, carrier, word, draw.choice(carrier.cuts))
            lines.append(json.dumps({"text": model.tokenizer.decode(ids, skip_special_tokens=True)}))
    path = config.out / "stories.jsonl"
    write_text(path, "\n".join(lines) + "\n")
    return path
