"""`torchrun ... -m interp train`: one SAE on several ranks, in the run folder that one process would write.

Rank 0 reads and writes the folder, makes the initial weights and saves the SAE, on its CPU, so that it alone needs room
there for the whole dictionary.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from interp.activations.blocks import ShuffledActivations
from interp.checkpoints import TrainState, load_checkpoint
from interp.code import ActivationBatch
from interp.distributed import Ranks, check_devices
from interp.errors import ConfigError
from interp.fitting import fit_in_folder, follow
from interp.loop import StepDone
from interp.models import resolve_device
from interp.recording import Row
from interp.runs import RunFolder
from saes.base import SAE
from saes.metrics import DENSE_ABOVE
from saes.optimiser import make_optimiser
from saes.origin import Origin, open_origin
from saes.sharded import ShardedSAE
from saes.sharded_create import check_spreads, create_sharded
from saes.sharded_state import gather_state, gather_weights, scatter_state, scatter_weights
from saes.training import (
    SAMPLE_TOKENS,
    Fit,
    Start,
    empty_sae,
    find_start,
    finish_fit,
    open_run,
    shuffled,
    start_sae,
    tell_repeats,
)
from saes.training import TrainConfig as TrainConfig
from saes.warm_start import warm_start


@dataclass(frozen=True, slots=True)
class SpreadFit:
    """One rank's part of an SAE in training."""

    config: TrainConfig
    task: ShardedSAE
    optimiser: torch.optim.Optimizer

    def row(self, done: StepDone) -> Row:
        """What metrics.jsonl tells beside the loop's own terms, of the whole; all ranks ask for it."""
        own, code = self.task.own, done.report.code
        threshold = own.threshold.detach()
        # One threshold for all is the same everywhere; of many each rank has its own.
        n_thresholds = threshold.numel() if threshold.ndim else int(self.task.ranks.first)
        share = float(threshold.sum()) if threshold.ndim else float(threshold) * n_thresholds
        dead = int((own.tokens_since_fired >= own.dead_after_tokens).sum()) if own.dead_after_tokens else 0
        dense = 0
        if code is not None:
            fired = torch.bincount(code.features[code.values > 0], minlength=code.d_sae)
            dense = int((fired > DENSE_ABOVE * code.n_rows).sum())
        share, n, n_dead, n_dense = self.task.ranks.total(share, n_thresholds, dead, dense)
        return {"threshold": share / n, "dead": int(n_dead), "dense": int(n_dense)}

    def whole(self, state: TrainState) -> TrainState:
        """The state to save, at rank 0; all ranks ask for it."""
        return gather_state(state, self.task, self.optimiser)


def train_on_ranks(
    config: TrainConfig, ranks: Ranks, *, resume: bool = False, resume_from: str | None = None
) -> RunFolder:
    """As `train`, by all ranks together; checkpoints and results do not depend on how many there are.

    Raises: at every rank any InterpError of rank 0; RankLostError where another one is gone.
    """
    check_config(config, ranks)
    start = ranks.from_first(lambda: find_start(config, resume=resume, resume_from=resume_from))
    if start.finished:
        return RunFolder(config.out)
    origin = open_origin(config, ranks=ranks)
    ranks.check_same("config", config.model_dump(mode="json"))
    ranks.check_same("model and data", [origin.model.get("content_hash"), origin.data])
    with closing(shuffled(config, origin)) as batches:
        fit, state = _begin(config, origin, batches, ranks, start)
        run = ranks.from_first(lambda: open_run(config, origin, goes_on=start.goes_on))
        settings: dict[str, Any] = {
            "schedule": config.schedule,
            "n_steps": config.n_steps,
            "clip_norm": config.clip_norm,
            "recording": config.recording,
            "state": state,
            "more": fit.row,
            "whole": fit.whole,
        }
        if ranks.first:
            fit_in_folder(run, fit.task, fit.optimiser, batches, label=f"train on {ranks.n} ranks", **settings)
            tell_repeats(batches)
        else:
            follow(fit.task, fit.optimiser, batches, **settings)
    _finish(fit, run, origin)
    return run


def check_config(config: TrainConfig, ranks: Ranks) -> None:
    """Raises: ConfigError if a run cannot be spread over ranks."""
    check_devices(ranks, resolve_device(config.device))
    check_spreads(config.sae, ranks)
    if config.optimiser != "adam":
        told = f"on {ranks.n} ranks; train in one process, or give adam"
        raise ConfigError(f"optimiser: got {config.optimiser}, which needs whole matrices, {told}")


def _begin(
    config: TrainConfig, origin: Origin, batches: ShuffledActivations, ranks: Ranks, start: Start
) -> tuple[SpreadFit, TrainState | None]:
    """Every rank's part, with initial weights or the state that it goes on from."""
    widths = origin.source.widths
    d_in, d_out = (sum(widths[hook] for hook in hooks) for hooks in (config.hooks_in, config.hooks_out))
    task = create_sharded(
        config.sae,
        d_in,
        ranks,
        hooks_in=config.hooks_in,
        hooks_out=config.hooks_out,
        d_out=d_out,
        hook_widths=[widths[hook] for hook in config.hooks_in],
        token_budget=config.tokens,
        device=resolve_device(config.device),
    )
    task.own.W_dec.requires_grad_(not config.freeze_decoder)
    optimiser = make_optimiser(task.own, config.schedule.lr, config.optimiser, ranks=ranks)
    fit = SpreadFit(config, task, optimiser)
    checkpoint = start.checkpoint
    if checkpoint is not None:
        return fit, scatter_state(lambda: load_checkpoint(checkpoint), task, optimiser)
    sample = batches.peek(SAMPLE_TOKENS)
    scatter_weights(lambda: _whole(config, origin, sample), task)
    return fit, None


def _whole(config: TrainConfig, origin: Origin, sample: ActivationBatch) -> SAE:
    """The SAE with its initial weights, on the CPU."""
    sae = empty_sae(config.model_copy(update={"device": "cpu"}), origin.source.widths)
    start_sae(sae, config, sample)
    if config.warm_start is not None:
        warm_start(sae, config.warm_start)
    return sae


def _finish(fit: SpreadFit, run: RunFolder, origin: Origin) -> None:
    """Rank 0 saves the SAE; the others wait until it has, so that a failure ends all."""
    weights, ranks = gather_weights(fit.task), fit.task.ranks

    def save() -> None:
        cpu = fit.config.model_copy(update={"device": "cpu"})
        sae = empty_sae(cpu, origin.source.widths)
        sae.load_state_dict(weights)
        finish_fit(Fit(fit.config, run, sae, fit.optimiser, None))

    ranks.from_first(save)
