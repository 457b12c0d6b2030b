"""`interp lens train`: from a config to a run folder with a trained and measured lens. Composes the parts."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from interp.activations.blocks import ShuffledActivations
from interp.activations.harvest import Harvest
from interp.checkpoints import TrainState, latest_checkpoint, load_checkpoint
from interp.datasets import TokenStream, open_stream
from interp.fitting import fit_in_folder
from interp.lenses.config import LensConfig
from interp.lenses.continuations import ContinuationBatches, Continuations, draw_continuations
from interp.lenses.divergence import measure_divergence
from interp.lenses.folder import LensFolder, new_lens
from interp.lenses.future import FutureLens
from interp.lenses.logit import check_readable
from interp.lenses.measure import CountedArms, measure_table
from interp.lenses.tuned import TunedLens
from interp.loop import BatchSource, Schedule, Trainable
from interp.models import Model, load_model
from interp.recording import progress_of_stages
from interp.runs import RunFolder, RunManifest
from interp.timing import laps_on

# May differ between a run and its continuation: none of them changes what is computed in training.
FREE_ON_RESUME = (
    "out",
    "tuned.evaluation_tokens",
    "future.evaluation_examples",
    "future.counted_tokens",
    "recording.log_every",
    "recording.checkpoint_every",
    "recording.keep_checkpoints",
)
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the loop needs of either lens."""

    task: Trainable
    optimiser: torch.optim.Optimizer
    batches: BatchSource
    schedule: Schedule
    clip_norm: float


def train_lens(config: LensConfig, *, resume: bool = False) -> LensFolder:
    """Train a lens, save it, measure it on held-out text. `resume` goes on from the last checkpoint, bit for bit.

    Raises: any InterpError; whatever was checkpointed before it stays usable.
    """
    run = RunFolder(config.out)
    goes_on = run.goes_on(config, resume=resume, may_differ=FREE_ON_RESUME)
    if goes_on and run.manifest().status == "finished":
        return LensFolder.open(config.out)
    model = load_model(config.model, device=config.device, dtype=config.dtype)
    check_readable(model)
    lens = new_lens(config, model)
    stream = open_stream(config.dataset, model, config.data)
    state = None
    if goes_on:
        run.check_same_inputs(model=model.facts, data=stream.facts)
        found = latest_checkpoint(run.checkpoints)
        state = load_checkpoint(found) if found is not None else None
    # A fixed prompt has nothing to fit.
    learns = any(True for _ in lens.parameters())
    with progress_of_stages() as tell:
        fit = _prepare(config, lens, stream, tell, fresh=state is None) if learns else None
    if not goes_on:
        data = stream.facts | stream.overlap(stream.with_split("heldout"))
        manifest = RunManifest.begin("lens", seed=config.seed, model=model.facts, data=data)
        run = RunFolder.begin(config.out, config, manifest)
    folder = LensFolder(run)
    if fit is not None:
        _fit(config, folder, fit, state)
    folder.save(lens, {"lens": config.lens, "model": model.facts})
    with progress_of_stages() as tell:
        _measure(config, folder, lens, stream, tell)
    run.write_manifest(run.manifest().model_copy(update={"status": "finished"}))
    return folder


def _fit(config: LensConfig, folder: LensFolder, fit: _Fit, state: TrainState | None) -> None:
    fit_in_folder(
        folder.run,
        fit.task,
        fit.optimiser,
        fit.batches,
        label=f"{config.lens} lens",
        schedule=fit.schedule,
        n_steps=config.n_steps,
        clip_norm=fit.clip_norm,
        recording=config.recording,
        state=state,
    )


def _prepare(config: LensConfig, lens: TunedLens | FutureLens, stream: TokenStream, tell: Tell, *, fresh: bool) -> _Fit:
    if isinstance(lens, TunedLens):
        return _prepare_tuned(config, lens, stream)
    examples = draw_examples(config, lens, stream, tell)
    if fresh:
        lens.start(examples)
    future = config.future
    batches = ContinuationBatches(examples, batch_size=future.batch_size, seed=config.seed)
    return _Fit(lens, future_optimiser(lens, config), batches, future.schedule, future.clip_norm)


def _prepare_tuned(config: LensConfig, lens: TunedLens, stream: TokenStream) -> _Fit:
    tuned = config.tuned
    batches = ShuffledActivations(
        Harvest(lens.model, stream, (*lens.hooks, lens.teacher_hook)),
        batch_size=tuned.batch_size,
        block_tokens=config.shuffle.block_tokens,
        seed=config.seed if config.shuffle.seed is None else config.shuffle.seed,
        laps=laps_on(lens.model.device),
    )
    optimiser = torch.optim.SGD(
        lens.parameters(),
        lr=tuned.schedule.lr,
        momentum=tuned.momentum,
        nesterov=tuned.momentum > 0,
        weight_decay=tuned.weight_decay,
    )
    return _Fit(lens, optimiser, batches, tuned.schedule, tuned.clip_norm)


def future_optimiser(lens: FutureLens, config: LensConfig) -> torch.optim.Optimizer:
    """AdamW of prompts and, at a smaller rate and without decay, of the linear maps."""
    future = config.future
    groups: list[dict[str, Any]] = []
    if lens.learned is not None:
        groups.append({"params": list(lens.learned.parameters()), "weight_decay": future.weight_decay})
    linear = [p for part in (lens.linear_vocab, lens.linear_hidden) if part is not None for p in part.parameters()]
    if linear:
        groups.append({"params": linear, "weight_decay": 0.0, "lr_scale": future.linear_lr_scale})
    return torch.optim.AdamW(groups, lr=future.schedule.lr)


def draw_examples(config: LensConfig, lens: FutureLens, stream: TokenStream, tell: Tell) -> Continuations:
    """The prefixes and continuations that a run trains on, or measures on where the stream is the held-out one."""
    future, heldout = config.future, stream.split == "heldout"
    n_examples = future.evaluation_examples if heldout else future.examples
    stage = "held-out continuations" if heldout else "continuations"
    return draw_continuations(
        lens.model,
        stream,
        hooks=lens.hooks,
        n_examples=n_examples,
        n_distances=future.distances,
        decoding=future.decoding,
        shortest_prefix=future.shortest_prefix,
        prefixes_per_row=future.prefixes_per_row,
        seed=config.seed + int(heldout),
        on_progress=lambda done, total: tell(stage, done, total),
    )


def _measure(
    config: LensConfig, folder: LensFolder, lens: TunedLens | FutureLens, stream: TokenStream, tell: Tell
) -> None:
    lens.requires_grad_(False)
    heldout = stream.with_split("heldout")
    provenance = provenance_of(folder.run, heldout)
    if isinstance(lens, TunedLens):
        found = measure_divergence(
            lens, heldout, n_tokens=config.tuned.evaluation_tokens, seed=config.seed, provenance=provenance
        )
        found.save(folder.divergence_path)
        return
    table = measure_table(
        lens,
        draw_examples(config, lens, heldout, tell),
        counted=count_followers(config, lens.model, stream),
        decoding=config.future.decoding,
        seed=config.seed,
        provenance=provenance,
        on_progress=lambda done, total: tell("arms", done, total),
    )
    table.save(folder.table_path)


def count_followers(config: LensConfig, model: Model, stream: TokenStream) -> CountedArms:
    """Bigram and trigram arms from the training split's first tokens."""
    documents: list[list[int]] = []
    n = 0
    for batch in stream.iter_pass():
        for row, real in zip(batch.token_ids.tolist(), (batch.document >= 0).sum(1).tolist(), strict=True):
            documents.append(row[:real])
        n += sum(map(len, islice(documents, len(documents) - batch.token_ids.shape[0], None)))
        if n >= config.future.counted_tokens:
            break
    return CountedArms.of(documents, n_distances=config.future.distances, vocab_size=model.d_vocab)


def provenance_of(run: RunFolder, stream: TokenStream) -> dict[str, Any]:
    """What a result of a lens run records of where it comes from."""
    manifest = run.manifest()
    held = {"model": manifest.model, "versions": manifest.versions, "commit": manifest.commit, "seed": manifest.seed}
    return {"run": run.name, "command": manifest.command, "data": stream.facts, **held}
