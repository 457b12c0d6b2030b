"""`interp study codebook-language`: what codebooks cost a language model, and what its codes are good for.

Source: Tamkin, Taufeeque & Goodman 2023, section 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from interp.codebooks.config import CodebookConfig
from interp.codebooks.evaluation import DocumentSums, document_sums
from interp.codebooks.files import CodebookFolder, CodebookModel, load_codebook_model
from interp.codebooks.language_results import (
    BASE,
    PLAIN,
    CodebookLanguage,
    CodeSample,
    ConceptSteering,
    LanguageArm,
    WordWithoutCodes,
)
from interp.codebooks.record import CodeRecord, record_codes
from interp.codebooks.training import train_codebooks
from interp.config import Config, Seed
from interp.datasets import DataConfig, TokenStream, open_stream
from interp.loop import Schedule
from interp.models import Model, load_model
from interp.recording import Recording
from interp.runs import RunFolder, hardware, this_command
from interp.storage import write_text
from interp.studies.codebook_language_inspection import looked_at
from interp.studies.codebook_language_steering import Scene, check_prompt, kept_steering
from interp.studies.study_folder import keep_settings, training_seconds

SizeName = Literal["tiny", "cpu"]
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained, scored, looked at and written. Units: tokens, but for codes, texts and controls."""

    n_codes: int
    trained: int
    batch: int
    clustered: int
    scored: int
    looked_at: int
    n_texts: int
    new_tokens: int
    n_controls: int


MAY_DIFFER = ("out", "device", "concepts", "prompt", "steer_k")
"""Settings that may be others when a study is gone on with: no arm is trained by them."""

SIZES: Mapping[SizeName, Size] = {
    "tiny": Size(12, 2048, 512, 1000, 1500, 6000, 4, 4, 3),
    "cpu": Size(500, 200_000, 1024, 8000, 40_000, 60_000, 50, 30, 100),
}


class CodebookLanguageConfig(Config):
    """Codebooks in a language model, against the same finetune without them."""

    model: str = "embedded"
    """"embedded", a Hugging Face folder or a hub name of a causal language model."""
    dataset: str = "embedded"
    """"embedded", a .txt, .jsonl or .parquet file, a folder of them, or a hub name."""
    size: SizeName = "cpu"
    """tiny: seconds, for tests. cpu: 200k tokens for each arm, 500 codes a head, 100 sets of random codes."""
    rows: Literal["padded", "packed", "joined"] = "padded"
    """How documents become rows; joined for models that were pretrained on documents back to back."""
    context_size: int = Field(128, ge=8)
    """Tokens per row."""
    k: tuple[int, ...] = (8, 1)
    """Codes active at once in each head's codebook; an arm for each."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate of every arm; it falls to zero over the last nine tenths."""
    tokens: int = Field(0, ge=0)
    """Tokens that each arm learns from; 0: as the size says."""
    seeds: int = Field(1, ge=1)
    """Codebook arms for each k; without codebooks nothing is drawn, so that there is one plain finetune."""
    concepts: tuple[str, ...] = ("mom",)
    """Words that are steered towards, each by all of its codes."""
    steer_k: int = 0
    """The k of the arm that is steered; 0: the first of --k."""
    prompt: str = "Once upon a time"
    """What steered texts begin with."""
    out: Path = Path("runs/codebook_language")
    """Folder to write; a run folder for each arm, which `interp codebook inspect` takes. What is finished is kept."""
    seed: Seed = 0
    """Seed of the first codebooks, of drawn codes and neurons, of texts and of random codes."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU)."""

    @model_validator(mode="after")
    def _fits(self) -> "CodebookLanguageConfig":
        if not self.k or len(set(self.k)) != len(self.k) or min(self.k) < 1:
            raise ValueError(f"k: got {list(self.k)}; expected numbers of codes that differ, such as 8,1")
        if bad := [word for word in self.concepts if not word.strip() or "/" in word or not word.isprintable()]:
            raise ValueError(f"concepts: got {bad[0]!r}; expected words of printable letters, without '/'")
        if self.steer_k and self.steer_k not in self.k:
            raise ValueError(f"steer_k: got {self.steer_k}; expected one of {list(self.k)}")
        return self


def run_codebook_language(config: CodebookLanguageConfig, *, on_progress: Tell | None = None) -> CodebookLanguage:
    """Finetune with and without codebooks, score all on held-out text, look at codes, and steer by them.

    Raises: any InterpError; what is finished stays, and the same command goes on.
    """
    tell = on_progress or (lambda *_: None)
    settings = config.out / "study.yaml"
    keep_settings(config, settings, {}, may_differ=MAY_DIFFER)
    model = load_model(config.model, device=config.device)
    # Before hours of training, not behind them.
    check_prompt(model, config.prompt)
    heldout = open_stream(config.dataset, model, _data(config), split="heldout")
    plain = _trained(config, model, heldout, k=None, seed=config.seed)
    size = SIZES[config.size]
    base = document_sums(model, heldout.iter_pass(), n_tokens=size.scored)
    held = load_codebook_model(plain.run.path, device=config.device)
    without = document_sums(held.model, heldout.iter_pass(), n_tokens=size.scored)
    arms = [
        LanguageArm(BASE, config.seed, base.scores(), 0.0, base.loss_above(without)),
        LanguageArm(PLAIN, config.seed, without.scores(), training_seconds(plain.run)),
    ]
    samples: list[CodeSample] = []
    words: list[ConceptSteering | WordWithoutCodes] = []
    for k in config.k:
        for seed in range(config.seed, config.seed + config.seeds):
            folder = _trained(config, model, heldout, k=k, seed=seed)
            arm = load_codebook_model(folder.run.path, device=config.device)
            if seed > config.seed:
                # Of further seeds no code is shown; what is told is how many are dead.
                record = record_codes(arm.model, arm.codebooks, heldout.iter_pass(), n_tokens=size.looked_at)
                arms.append(_scored(size, arm, heldout, without, record))
                continue
            texts = _texts(arm)
            inspection, record = looked_at(
                inspected_folder(config, k, seed), arm, held, heldout, texts, n_tokens=size.looked_at, seed=config.seed,
                on_progress=tell,
            )  # fmt: skip
            arms.append(_scored(size, arm, heldout, without, record))
            samples.append(CodeSample(arm_name(k), inspection.code_detection, inspection.neuron_detection))
            if k == (config.steer_k or config.k[0]):
                words += _steered(config, Scene(
                    arm, arm_name(k), record, heldout, texts, config.prompt, size.n_texts, size.new_tokens,
                    size.n_controls, config.seed + 1,
                ), tell)  # fmt: skip
    # Until the results are others, those beside it are repeated by what they were begun with.
    write_text(settings, config.to_yaml())
    told = {"command": this_command(), "seed": config.seed, "model hash": model.content_hash, **_facts(config)}
    return CodebookLanguage(
        config.model, config.dataset, config.size, tuple(arms), tuple(samples),
        tuple(one for one in words if isinstance(one, ConceptSteering)), told | hardware(),
        tuple(one for one in words if isinstance(one, WordWithoutCodes)),
    )  # fmt: skip


def arm_name(k: int) -> str:
    """As in the published table."""
    return f"attn, k={k}"


def arm_folder(config: CodebookLanguageConfig, k: int | None, seed: int) -> Path:
    """Where an arm's run is."""
    return config.out / ("plain" if k is None else f"attn_k{k}_seed{seed}")


def inspected_folder(config: CodebookLanguageConfig, k: int, seed: int) -> Path:
    """Where the study keeps what it looked at of an arm."""
    return config.out / "inspected" / arm_folder(config, k, seed).name


def _facts(config: CodebookLanguageConfig) -> dict[str, Any]:
    size = SIZES[config.size]
    return {
        "codes of a head": size.n_codes,
        "training tokens of an arm": config.tokens or size.trained,
        "tokens looked at": size.looked_at,
        "texts, tokens of each": f"{size.n_texts}, {size.new_tokens}",
        "learning rate": config.lr,
    }


def _data(config: CodebookLanguageConfig) -> DataConfig:
    return DataConfig(context_size=config.context_size, batch_tokens=SIZES[config.size].batch, rows=config.rows)


def _trained(
    config: CodebookLanguageConfig, base: Model, text: TokenStream, *, k: int | None, seed: int
) -> CodebookFolder:
    """One arm's run, from its last checkpoint on.

    Raises: ArtifactError if it was trained from weights other than those of `base`, or on a text other than `text`.
    """
    size = SIZES[config.size]
    settings = CodebookConfig(
        model=config.model,
        dataset=config.dataset,
        at=() if k is None else ("attn",),
        n_codes=max(size.n_codes, k or 1),
        k=k or 1,
        initial="kmeans_scaled",
        initial_tokens=size.clustered,
        tokens=config.tokens or size.trained,
        schedule=Schedule(lr=config.lr, warmup_share=0.05, decay_share=0.9),
        evaluation_tokens=size.scored,
        data=_data(config),
        out=arm_folder(config, k, seed),
        seed=seed,
        device=config.device,
        recording=Recording(log_every=20, checkpoint_every=100, keep_checkpoints=1),
    )
    run = RunFolder(settings.out)
    if run.started and run.manifest().status == "finished":
        # Trained on another text, it may have read what is held out of this one.
        run.check_same_inputs(model=base.facts, data=text.facts)
        # Another device may go on with what is trained, though not with a training that is under way.
        settings = settings.model_copy(update={"device": run.config(CodebookConfig).device})
    return train_codebooks(settings, resume=True)


def _texts(arm: CodebookModel) -> list[str]:
    from dashboards.tokens import token_texts

    return token_texts(arm.model.tokenizer)


def _scored(
    size: Size, arm: CodebookModel, heldout: TokenStream, plain: DocumentSums, record: CodeRecord
) -> LanguageArm:
    with arm.inserted():
        sums = document_sums(arm.model, heldout.iter_pass(), n_tokens=size.scored)
    dead = float(np.mean(np.concatenate([book.counts() == 0 for book in record.books])))
    never = torch.cat([(quantiser.hits == 0).flatten() for _, quantiser in arm.codebooks.items()])
    return LanguageArm(
        arm_name(arm.config.k),
        arm.config.seed,
        sums.scores(),
        training_seconds(arm.folder.run),
        sums.loss_above(plain),
        dead,
        float(never.float().mean()),
    )


def _steered(config: CodebookLanguageConfig, scene: Scene, tell: Tell) -> list[ConceptSteering | WordWithoutCodes]:
    folder = config.out / "steering"
    return [
        kept_steering(scene, word, folder, on_progress=partial(tell, f"random codes, {word}"))
        for word in dict.fromkeys(config.concepts)
    ]
