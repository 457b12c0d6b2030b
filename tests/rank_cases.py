"""What each rank does in the tests of whole commands and of lost ranks: importable, since processes run it."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from interp.activations.collect import CollectConfig, collect
from interp.activations.spread import open_harvest
from interp.code import ActivationBatch
from interp.distributed import Ranks
from interp.errors import ConfigError, InterpError, RankLostError
from interp.loop import update
from saes.optimiser import make_optimiser
from saes.sharded_create import create_sharded
from saes.sharded_training import train_on_ranks
from saes.sweep import sweep
from saes.sweep_config import SweepConfig
from saes.training import TrainConfig
from tests.families import tiny_model
from tests.ranks import SECONDS
from tests.specimens import HOOK, written_stream


def train_all(ranks: Ranks, runs: list[dict[str, Any]]) -> list[str]:
    """Train one run after another, `resume_from` its checkpoint where one is named; gives what went wrong."""
    told = []
    for settings in runs:
        values = {name: value for name, value in settings.items() if name != "resume_from"}
        try:
            train_on_ranks(TrainConfig.load(None, values), ranks, resume_from=settings.get("resume_from"))
            told.append("")
        except InterpError as error:
            told.append(str(error))
    return told


def collect_all(ranks: Ranks, settings: dict[str, Any]) -> str:
    """Collect half of the activations, then go on."""
    config = CollectConfig.load(None, settings)
    collect(config.model_copy(update={"tokens": config.tokens // 2}), ranks=ranks)
    return str(collect(config, resume=True, ranks=ranks).path)


def sweep_all(ranks: Ranks, config: Path, folders: list[tuple[Path, bool]]) -> list[str]:
    """Train the members of a sweep into each folder, or go on with it; gives what went wrong."""
    told = []
    for out, resume in folders:
        try:
            sweep(SweepConfig.load(config, {"out": str(out)}), resume=resume, ranks=ranks)
            told.append("")
        except InterpError as error:
            told.append(str(error))
    return told


def harvested(ranks: Ranks, folder: Path, cursors: list[dict[str, int]], n_chunks: int) -> list[list[Any]]:
    """The first chunks from each cursor on, as plain tensors."""
    model = tiny_model("llama")
    source = open_harvest(model, written_stream(folder, model), (HOOK, "blocks.0.hook_mlp_out"), ranks)
    found = []
    for cursor in cursors:
        chunks = source.iter_from(cursor)
        taken = [next(chunks) for _ in range(n_chunks)]
        found.append([(at, dict(c.acts), c.token_ids, c.document, c.position) for at, c in taken])
    return found


def exchanged(ranks: Ranks) -> dict[str, Any]:
    """One of everything that ranks can exchange."""
    begin, end = ranks.span(7)
    whole = torch.arange(21.0).view(7, 3)

    def fails() -> None:
        raise ConfigError("what rank 0 says")

    def told(work: Any) -> str:
        try:
            work()
        except InterpError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    return {
        "sum": ranks.add(torch.full((2,), float(ranks.rank + 1))),
        "least": ranks.least(torch.tensor([1.0 - ranks.rank])),
        "most": ranks.most(torch.tensor([1.0 - ranks.rank])),
        "total": ranks.total(1, 2.5),
        "gathered": ranks.gather(torch.full((2, 2), ranks.rank, dtype=torch.bfloat16)),
        "empty": ranks.gather(torch.zeros(0, 3)),
        "rows": ranks.gather_rows(whole[begin:end], 7),
        "part": ranks.scatter_rows(whole if ranks.first else None, (7, 3), torch.float32),
        "first": ranks.from_first(lambda: ranks.rank),
        "fails": told(lambda: ranks.from_first(fails)),
        "differs": told(lambda: ranks.check_same("seed", ranks.rank // 2)),
        "same": told(lambda: ranks.check_same("seed", [1, "a"])),
    }


def counted(ranks: Ranks, settings: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Bytes that this rank receives in a step, as rings do it, and bytes of what it trains, for each SAE."""
    return [_counted(ranks, TrainConfig.load(None, one)) for one in settings]


def _counted(ranks: Ranks, config: TrainConfig) -> dict[str, float]:
    received = {"sums": 0.0, "parts": 0.0}
    add, gather = dist.all_reduce, dist.all_gather

    def adds(x: torch.Tensor, *more: Any) -> None:
        received["sums"] += 2 * x.nbytes * (ranks.n - 1) / ranks.n
        add(x, *more)

    def gathers(parts: list[torch.Tensor], x: torch.Tensor) -> None:
        received["parts"] += x.nbytes * (ranks.n - 1)
        gather(parts, x)

    task = create_sharded(config.sae, 16, ranks, hooks_in=(config.hook,), token_budget=config.tokens)
    torch.nn.init.normal_(task.own.W_enc)
    torch.nn.init.normal_(task.own.W_dec)
    optimiser = make_optimiser(task.own, 1e-3, ranks=ranks)
    index = torch.zeros(config.batch_size, dtype=torch.int64)
    batch = ActivationBatch({config.hook: torch.randn(config.batch_size, 16)}, index, index, index)
    with patch.object(dist, "all_reduce", adds), patch.object(dist, "all_gather", gathers):
        update(task, optimiser, task.losses(batch), lr=1e-3, clip_norm=1.0, step=1)
    trained = sum((2 if p.requires_grad else 1) * p.nbytes for p in task.own.parameters())
    trained += sum(x.nbytes for slots in optimiser.state.values() for x in slots.values() if x.ndim)
    return {**received, "trained": float(trained)}


def one_goes(ranks: Ranks, how: str) -> str:
    """The last rank ends, or sleeps until it is killed; gives what the others say of it."""
    ranks.total(0)
    if how == "sleeps":
        # From here on, so that it does not matter how long ranks took to find each other. All of them have begun.
        _set_pg_timeout(timedelta(seconds=2), dist.group.WORLD)
    if ranks.rank == ranks.n - 1:
        if how == "sleeps":
            time.sleep(SECONDS)
        os._exit(3)
    try:
        ranks.add(torch.zeros(1000))
    except RankLostError as error:
        return str(error)
    return ""
