"""`interp study tokfsm`: a machine of 100 states in a model of fewer neurons, with and without codebooks.

Source: Tamkin, Taufeeque & Goodman 2023, section 4.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from interp.codebooks.config import CodebookConfig
from interp.codebooks.files import CodebookFolder, CodebookModel, load_codebook_model
from interp.codebooks.insertion import Insertion, Site
from interp.codebooks.neurons import neuron_activations
from interp.codebooks.record import CodeRecord, record_codes
from interp.codebooks.tokfsm_results import KINDS, ArmResult, StateIntervention, TokFSMStudy
from interp.codebooks.training import FREE_ON_RESUME, codebook_manifest, fit_codebooks, prepare_codebooks
from interp.config import Config, Seed
from interp.datasets import DataConfig, open_stream
from interp.loop import Schedule
from interp.models import Model, load_model
from interp.recording import Recording
from interp.runs import RunFolder, this_command
from interp.storage import new_folder
from interp.studies.study_folder import keep_settings, training_seconds
from interp.studies.tokfsm_codes import codes_of_classes
from interp.studies.tokfsm_interventions import draw_scene, intervene
from interp.studies.tokfsm_machine import Machine, MachineBatches
from interp.studies.tokfsm_model import new_model
from interp.studies.tokfsm_precision import detector_precisions
from interp.studies.tokfsm_scores import score_model

SizeName = Literal["tiny", "cpu", "paper"]
Tell = Callable[[str, int, int], None]
BASE_ARM = "no codebooks"


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to put codebooks in, and what was published of it: loss, accuracy and state accuracy in percent."""

    name: str
    at: tuple[Site, ...] = ()
    n_codes: int = 1
    k: int = 1
    published: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """How large the models are, and how long they learn."""

    n_layers: int
    d_model: int
    n_heads: int
    parallel: bool
    n_positions: int
    n_rows: int
    base: tuple[int, Schedule]
    finetune: tuple[int, Schedule]
    arms: tuple[Arm, ...]
    n_scored: int
    n_recorded: int
    n_intervened: int
    n_controls: int
    initial: Literal["normal", "kmeans"] = "normal"


_ATTN = Arm("attn, k=1", ("attn",), 2000, 1, (1.18, 46.33, 96.39))
_BOTH: tuple[Site, ...] = ("attn", "mlp")
_PAPER_ARMS = (
    _ATTN,
    Arm("attn + MLP, k=1", _BOTH, 10_000, 1, (1.269, 45.27, 63.65)),
    Arm("attn + MLP, k=4", _BOTH, 20_000, 4, (float("nan"), float("nan"), 80.69)),
    Arm("attn + MLP, k=16", _BOTH, 20_000, 16, (float("nan"), float("nan"), 91.53)),
    Arm("attn + MLP, k=128", _BOTH, 20_000, 128, (float("nan"), float("nan"), 95.82)),
)
PUBLISHED_BASE = (1.179, 46.36, 96.77)
PUBLISHED_PRECISION = (97.1, 70.5)
_FLAT = Schedule(lr=1e-3, warmup_share=0.0, decay_share=0.0)
# What learns a small machine in minutes. With parallel blocks, as at the published size, two layers are one MLP deep:
# 6,000 steps ended at a loss of 1.37 and .87 of transitions valid, where blocks in sequence ended at 1.25 and .998.
_FAST = Schedule(lr=5e-3, warmup_share=0.03, decay_share=1.0)
_GENTLE = Schedule(lr=2e-3, warmup_share=0.0, decay_share=0.8)
SIZES: Mapping[SizeName, Size] = {
    "tiny": Size(
        1, 32, 2, False, 12, 32, (30, _FAST), (20, _FAST), (Arm("attn, k=1", ("attn",), 40),), 60, 2000, 12, 3
    ),
    "cpu": Size(
        2, 64, 4, False, 32, 128, (4000, _FAST), (2500, _GENTLE),
        (
            Arm("attn, k=1", ("attn",), 500, 1, _PAPER_ARMS[0].published),
            Arm("attn + MLP, k=1", _BOTH, 1000, 1, _PAPER_ARMS[1].published),
        ),
        1000, 60_000, 300, 100, "kmeans",
    ),
    "paper": Size(4, 128, 4, True, 128, 512, (20_000, _FLAT), (20_000, _FLAT), _PAPER_ARMS, 2000, 200_000, 500, 100),
}  # fmt: skip


class TokFSMConfig(Config):
    """The finite-state-machine experiment."""

    size: SizeName = "cpu"
    """tiny: seconds, for tests. cpu: two layers, rows of 32 tokens, under twenty minutes on one core. paper: the
    published setting, for a GPU."""
    out: Path = Path("runs/tokfsm")
    """Folder to write; a run folder for each arm, which `interp codebook inspect` takes. What is finished is kept."""
    seed: Seed = 0
    """Seed of weights, of walks and of what is drawn; the machine itself always has seed 42."""
    device: str = "auto"
    """auto, cpu or cuda (cuda:1 for the second GPU)."""
    texts: int = Field(4000, ge=10)
    """Walks written to text.jsonl, on which codes are looked at; as many to clusters.jsonl, at which codes begin."""


def run_tokfsm(config: TokFSMConfig, *, on_progress: Tell | None = None) -> TokFSMStudy:
    """Train the base model and every arm, score them, look at their codes and intervene on them.

    Raises: any InterpError; arms that are finished stay, and the same command goes on.
    """
    size, machine, tell = SIZES[config.size], Machine.draw(), on_progress or (lambda *_: None)
    _write_inputs(config, size, machine)
    base = _train(config, size, machine, Arm(BASE_ARM, published=PUBLISHED_BASE), config.out / "initial")
    arms = [_scored(config, size, machine, Arm(BASE_ARM, published=PUBLISHED_BASE), base)]
    neurons = load_model(str(base.model), device=config.device)
    for arm in size.arms:
        folder = _train(config, size, machine, arm, base.model)
        arms.append(_scored(config, size, machine, arm, folder, neurons=neurons, tell=tell))
    bayes = machine.bayes(size.n_positions)
    return TokFSMStudy(
        config.size,
        machine.n_pairs,
        bayes[0],
        bayes[1],
        machine.bayes(128),
        tuple(arms),
        {
            "command": this_command(),
            "seed": config.seed,
            **load_codebook_model(base.run.path).folder.run.manifest().hardware,
        },
    )


def arm_folder(name: str) -> str:
    """A folder's name for an arm."""
    return "base" if name == BASE_ARM else "".join(c if c.isalnum() else "_" for c in name).replace("__", "_")


def _write_inputs(config: TokFSMConfig, size: Size, machine: Machine) -> None:
    """The untrained model, and walks as text.

    Raises: ConfigError if the folder holds another study; nothing is then written.
    """
    walks = {"text.jsonl": config.seed + 77, _CLUSTERS: config.seed + 78}
    texts = {config.out / file: _walks(machine, config.texts, size.n_positions, seed) for file, seed in walks.items()}
    keep_settings(config, config.out / "study.yaml", texts)
    initial = config.out / "initial"
    if not initial.exists():
        model = new_model(
            n_layers=size.n_layers, d_model=size.d_model, n_heads=size.n_heads, context_size=size.n_positions,
            seed=config.seed, parallel=size.parallel,
        )  # fmt: skip
        with new_folder(initial) as temporary:
            model.hf.save_pretrained(temporary)
            model.tokenizer.save_pretrained(temporary)


# Codes are judged on walks that they did not begin at.
_CLUSTERS = "clusters.jsonl"


def _walks(machine: Machine, n: int, n_positions: int, seed: int) -> str:
    """Walks as lines of JSON."""
    rows = machine.rows(n, n_positions, torch.Generator().manual_seed(seed))[:, 1:]
    return "".join(json.dumps({"text": "".join(map(str, row))}) + "\n" for row in rows.tolist())


def _codebook_config(config: TokFSMConfig, size: Size, arm: Arm, model: Path) -> CodebookConfig:
    n_steps, schedule = size.base if arm.name == BASE_ARM else size.finetune
    n_tokens = size.n_rows * size.n_positions
    return CodebookConfig(
        model=str(model),
        dataset=str(config.out / "text.jsonl"),
        at=arm.at,
        n_codes=arm.n_codes,
        k=arm.k,
        tokens=n_steps * n_tokens,
        schedule=schedule,
        initial=size.initial,
        data=DataConfig(context_size=size.n_positions, batch_tokens=n_tokens),
        out=config.out / arm_folder(arm.name),
        seed=config.seed,
        device=config.device,
        recording=Recording(log_every=100, checkpoint_every=1000),
    )


def _train(config: TokFSMConfig, size: Size, machine: Machine, arm: Arm, model_folder: Path) -> CodebookFolder:
    """One arm's run, from its last checkpoint on."""
    settings = _codebook_config(config, size, arm, model_folder)
    run = RunFolder(settings.out)
    if run.started:
        run.check_same_config(settings, may_differ=FREE_ON_RESUME)
        if run.manifest().status == "finished":
            return CodebookFolder(run)
    model = load_model(settings.model, device=config.device)
    stream = open_stream(settings.dataset, model, settings.data)
    if not run.started:
        run = RunFolder.begin(settings.out, settings, codebook_manifest(settings, model, stream))
    batches = MachineBatches(
        machine, n_rows=size.n_rows, n_positions=size.n_positions, seed=config.seed + 1 + len(arm.name),
        device=model.device,
    )  # fmt: skip
    begun_at = open_stream(str(config.out / _CLUSTERS), model, settings.data, split="all")
    codebooks = prepare_codebooks(settings, model, begun_at.iter_pass())
    folder = fit_codebooks(settings, CodebookFolder(run), model, codebooks, batches)
    run.write_manifest(run.manifest().model_copy(update={"status": "finished"}))
    return folder


def _scored(
    config: TokFSMConfig,
    size: Size,
    machine: Machine,
    arm: Arm,
    folder: CodebookFolder,
    *,
    neurons: Model | None = None,
    tell: Tell | None = None,
) -> ArmResult:
    held = load_codebook_model(folder.run.path, device=config.device)
    with Insertion(held.model, held.codebooks):
        scores = score_model(
            held.model, machine, n_rows=size.n_scored, seed=config.seed + 991, n_positions=size.n_positions
        )
    seconds = training_seconds(folder.run)
    if neurons is None or tell is None:
        return ArmResult(arm.name, arm.published, scores, seconds)
    stream = open_stream(held.config.dataset, held.model, held.config.data, split="all")
    record = record_codes(held.model, held.codebooks, stream.iter_pass(), n_tokens=size.n_recorded)
    dead = float(np.mean(np.concatenate([book.counts() == 0 for book in record.books])))
    acts = neuron_activations(neurons, stream.iter_pass(), n_tokens=len(record))
    precisions = detector_precisions(record, acts, on_progress=tell)
    states = next((one for one in precisions if one.kind == "state"), None)
    return ArmResult(
        arm.name,
        arm.published,
        scores,
        seconds,
        dead,
        None if states is None else (states.codes, states.neurons),
        states.n_classes if states else 0,
        tuple(_interventions(config, size, machine, held, record, tell)),
        precisions,
    )


def _interventions(
    config: TokFSMConfig, size: Size, machine: Machine, held: CodebookModel, record: CodeRecord, tell: Tell
) -> Sequence[StateIntervention]:
    hooks = held.codebooks.hooks
    places: dict[str, tuple[str, ...]] = {"every layer": hooks}
    for layer in range(size.n_layers):
        places[f"layer {layer}"] = tuple(hook for hook in hooks if hook.startswith(f"blocks.{layer}."))
    found: list[StateIntervention] = []
    for kind in KINDS:
        known = codes_of_classes(record, held.codebooks, kind)
        scene = draw_scene(
            machine, kind, n_rows=size.n_intervened, n_positions=size.n_positions, seed=config.seed + 5,
            recorded=known.recorded,
        )  # fmt: skip
        for where, chosen in places.items():
            tell("interventions", len(found), 2 * len(places))
            found.append(
                intervene(
                    held.model, held.codebooks, record, scene, known, hooks=chosen, where=where,
                    n_controls=size.n_controls, seed=config.seed,
                )
            )  # fmt: skip
    tell("interventions", len(found), 2 * len(places))
    return found
