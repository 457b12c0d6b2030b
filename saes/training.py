"""`interp train`: from a config to a run folder with a trained SAE. Composes the parts; holds no mathematics."""

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from interp.activations.blocks import ShuffledActivations
from interp.checkpoints import TrainState, latest_checkpoint, list_checkpoints, load_checkpoint
from interp.code import ActivationBatch
from interp.errors import ArtifactError, ConfigError
from interp.fitting import fit_in_folder
from interp.loop import StepDone
from interp.models import resolve_device
from interp.recording import Row
from interp.runs import RunFolder, RunManifest
from interp.timing import laps_on
from saes.architectures import create_sae
from saes.base import SAE
from saes.initialise import initialise
from saes.io import save_sae
from saes.metrics import DENSE_ABOVE
from saes.optimiser import make_optimiser
from saes.origin import Origin, open_origin
from saes.train_config import TrainConfig as TrainConfig
from saes.warm_start import warm_start
from saes.wiring import unit_rows

# May differ between a run and its continuation: none of them changes what is computed.
FREE_ON_RESUME = (
    "out",
    "harvest.prefetch",
    "recording.log_every",
    "recording.checkpoint_every",
    "recording.keep_checkpoints",
)
SAMPLE_TOKENS = 8192
"""Tokens from which b_dec and the input scale are taken; at most what the shuffle buffer holds."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One SAE in training: what the loop moves, where it is written, and the state it goes on from."""

    config: TrainConfig
    run: RunFolder
    sae: SAE
    optimiser: torch.optim.Optimizer
    state: TrainState | None

    def row(self, done: StepDone) -> Row:
        """What metrics.jsonl tells beside the loop's own terms."""
        sae, row = self.sae, {"threshold": float(self.sae.threshold.detach().mean())}
        row["dead"] = int((sae.tokens_since_fired >= sae.dead_after_tokens).sum()) if sae.dead_after_tokens else 0
        if (code := done.report.code) is not None:
            fired = torch.bincount(code.features[code.values > 0], minlength=sae.d_sae)
            row["dense"] = int((fired > DENSE_ABOVE * code.n_rows).sum())
        return row


@dataclass(frozen=True, slots=True)
class Start:
    """How a command finds its run: not begun, begun, or finished; where it goes on from a checkpoint, which."""

    goes_on: bool
    finished: bool = False
    checkpoint: Path | None = None


def find_start(config: TrainConfig, *, resume: bool = False, resume_from: str | None = None) -> Start:
    """What to do about the run folder, before anything is loaded.

    Raises: ConfigError if it holds another run; ArtifactError if there is nothing to go on from.
    """
    run = RunFolder(config.out)
    if (resume or resume_from is not None) and run.started:
        run.check_same_config(config, may_differ=FREE_ON_RESUME)
        if run.manifest().status == "finished" and resume_from is None:
            return Start(goes_on=True, finished=True)
        return Start(goes_on=True, checkpoint=_checkpoint(run, resume_from))
    if resume_from is not None:
        raise ArtifactError(f"{config.out}: holds no run to resume from {resume_from}; check --out")
    run.check_free(config)
    return Start(goes_on=False)


def train(config: TrainConfig, *, resume: bool = False, resume_from: str | None = None) -> RunFolder:
    """Train an SAE and save it under out/sae; `resume` goes on from the last checkpoint, bit for bit.

    Raises: any InterpError; whatever was checkpointed before it stays usable.
    """
    start = find_start(config, resume=resume, resume_from=resume_from)
    if start.finished:
        return RunFolder(config.out)
    origin = open_origin(config)
    with closing(shuffled(config, origin)) as batches:
        state = load_checkpoint(start.checkpoint) if start.checkpoint is not None else None
        fit = begin_fit(config, origin, batches, state=state, goes_on=start.goes_on)
        fit_in_folder(
            fit.run,
            fit.sae,
            fit.optimiser,
            batches,
            label="train",
            schedule=config.schedule,
            n_steps=config.n_steps,
            clip_norm=config.clip_norm,
            recording=config.recording,
            state=state,
            more=fit.row,
        )
        tell_repeats(batches)
    finish_fit(fit)
    return fit.run


def tell_repeats(batches: ShuffledActivations) -> None:
    """Say on standard error where a run has read its source more than once."""
    if batches.n_passes:
        told = f"its text or activations were read {batches.n_passes} times over, being fewer than --tokens"
        print(f"train: {told}; give more, or fewer tokens", file=sys.stderr, flush=True)


def shuffled(config: TrainConfig, origin: Origin) -> ShuffledActivations:
    """The batches of a run, in the order that its shuffling seed gives."""
    return ShuffledActivations(
        origin.source,
        batch_size=config.batch_size,
        block_tokens=config.shuffle.block_tokens,
        seed=config.shuffle_seed,
        laps=laps_on(resolve_device(config.device)),
    )


def begin_fit(
    config: TrainConfig,
    origin: Origin,
    batches: ShuffledActivations,
    *,
    state: TrainState | None = None,
    goes_on: bool = False,
) -> Fit:
    """Build the SAE, then open its run folder: anew, or the one that `goes_on`.

    Raises: any InterpError for a wrong input, before a folder is made.
    """
    sae = new_sae(config, origin, batches, fresh=state is None)
    run = open_run(config, origin, goes_on=goes_on)
    return Fit(config, run, sae, make_optimiser(sae, config.schedule.lr, config.optimiser), state)


def open_run(config: TrainConfig, origin: Origin, *, goes_on: bool) -> RunFolder:
    """The run folder, made anew or taken up again.

    Raises: ConfigError if a run is there; ArtifactError if a run's model or data have changed since.
    """
    run = RunFolder(config.out)
    if goes_on:
        run.check_same_inputs(model=origin.model, data=origin.data)
        run.write_manifest(run.manifest().model_copy(update={"status": "running"}))
        return run
    manifest = RunManifest.begin("sae", seed=config.seed, model=origin.model, data=origin.recorded_data())
    return RunFolder.begin(config.out, config, manifest)


def finish_fit(fit: Fit) -> None:
    """Save the trained SAE into its run folder, with what evaluation holds it to."""
    config, manifest = fit.config, fit.run.manifest()
    facts = {
        "model": manifest.model,
        "data": manifest.data,
        "hook": config.hook,
        "seed": config.seed,
        "training_tokens": config.n_steps * config.batch_size,
        "frozen_decoder": config.freeze_decoder,
    }
    save_sae(fit.run.sae, fit.sae, facts)
    fit.run.write_manifest(manifest.model_copy(update={"status": "finished"}))


def new_sae(config: TrainConfig, origin: Origin, batches: ShuffledActivations, *, fresh: bool) -> SAE:
    """The SAE of a config for these activations; `fresh`: with initial weights, else zeros that a state shall fill.

    Raises: ConfigError if it does not fit into memory.
    """
    sae = empty_sae(config, origin.source.widths)
    if fresh:
        start_sae(sae, config, batches.peek(SAMPLE_TOKENS))
        if config.warm_start is not None:
            warm_start(sae, config.warm_start)
    sae.W_dec.requires_grad_(not config.freeze_decoder)
    return sae


def empty_sae(config: TrainConfig, widths: Mapping[str, int]) -> SAE:
    """The SAE of a config, for hooks of these widths, with all weights zero.

    Raises: ConfigError if it does not fit into memory.
    """
    d_in, d_out = (sum(widths[hook] for hook in hooks) for hooks in (config.hooks_in, config.hooks_out))
    try:
        return create_sae(
            config.sae,
            d_in,
            hooks_in=config.hooks_in,
            hooks_out=config.hooks_out,
            d_out=d_out,
            hook_widths=[widths[hook] for hook in config.hooks_in],
            token_budget=config.tokens,
            device=resolve_device(config.device),
        )
    except RuntimeError as error:
        # How torch says that memory is short.
        if "alloc" not in str(error) and not isinstance(error, torch.OutOfMemoryError):
            raise
        size = f"{config.sae.d_sae:,} features of width {d_in:,}"
        raise ConfigError(f"sae.d_sae: {size} do not fit into memory; give fewer") from None


def start_sae(sae: SAE, config: TrainConfig, sample: ActivationBatch) -> None:
    """Initial weights, from the config's seed and a sample of activations."""
    output = sample.stacked(config.hooks_out) if config.hook_out is not None else None
    x = sample.stacked(config.hooks_in)
    initialise(sae, x, seed=config.seed, normalise=config.rescale, output=output)
    if config.freeze_decoder and output is not None:
        # A transcoder's begins with what the data's linear map writes: learned, and no null arm.
        with torch.no_grad():
            sae.W_dec.copy_(unit_rows(sae.d_sae, sae.d_out, torch.Generator().manual_seed(config.seed)))


def _checkpoint(run: RunFolder, name: str | None) -> Path | None:
    if name is None:
        return latest_checkpoint(run.checkpoints)
    path = run.checkpoints / name
    if not path.is_dir():
        held = ", ".join(found.name for found in list_checkpoints(run.checkpoints)) or "none"
        raise ArtifactError(f"{path}: no such checkpoint; the run has {held}")
    return path
