"""Functions run by several gloo processes at once, as `torchrun` would start them."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from interp.distributed import Ranks

_FORKS = multiprocessing.get_context("forkserver")
# Imported once, by the server that all processes are forked from.
_FORKS.set_forkserver_preload(["tests.sharded_cases", "tests.rank_cases"])
SECONDS = 1500
"""Longest wait for the end of a rank, half of that of ranks for each other: starting them may take minutes."""


def on_ranks(n: int, work: Callable[..., Any], *arguments: Any, awaited: Sequence[int] = ()) -> list[Any]:
    """What `work(ranks, *arguments)` gives at each of n ranks, None where one was killed; `work` must be importable.

    `awaited` are those to wait for, if not all; the others are killed once these have ended.

    Raises: AssertionError with the trace of a rank that fails, or the number of one that does not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        processes = [_FORKS.Process(target=_one, args=(where, rank, n, work, arguments)) for rank in range(n)]
        for process in processes:
            process.start()
        try:
            for rank in awaited or range(n):
                processes[rank].join(SECONDS)
                assert processes[rank].exitcode is not None, f"rank {rank} of {n} did not end"
        finally:
            for process in processes:
                process.kill()
        failed = [path.read_text() for path in sorted(where.glob("*.failed"))]
        assert not failed, "\n".join(failed)
        found = (where / f"{rank}.pt" for rank in range(n))
        return [torch.load(path, weights_only=False) if path.exists() else None for path in found]


def _one(folder: Path, rank: int, n: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        where: dict[str, Any] = {"init_method": f"file://{folder}/store", "timeout": timedelta(seconds=2 * SECONDS)}
        dist.init_process_group("gloo", rank=rank, world_size=n, **where)
        torch.save(work(Ranks(rank, n), *arguments), folder / f"{rank}.pt")
    except BaseException:
        (folder / f"{rank}.failed").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        raise
