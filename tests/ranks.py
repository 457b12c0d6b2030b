"""Functions run by several gloo processes at once, as `torchrun` would start them."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from interp.distributed import Ranks

_FORKS = multiprocessing.get_context("forkserver")
# Imported once, by the server that all processes are forked from.
_FORKS.set_forkserver_preload(["tests.sharded_cases"])
SECONDS = 60


def on_ranks(n: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(ranks, *arguments)` gives at each of n ranks; `work` must be importable.

    Raises: AssertionError with the trace of a rank that fails, or the number of one that does not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        processes = [_FORKS.Process(target=_one, args=(where, rank, n, work, arguments)) for rank in range(n)]
        for process in processes:
            process.start()
        try:
            for rank, process in enumerate(processes):
                process.join(SECONDS)
                assert process.exitcode is not None, f"rank {rank} of {n} did not end"
        finally:
            for process in processes:
                process.kill()
        failed = [path.read_text() for path in sorted(where.glob("*.failed"))]
        assert not failed, "\n".join(failed)
        return [torch.load(where / f"{rank}.pt", weights_only=False) for rank in range(n)]


def _one(folder: Path, rank: int, n: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=n)
        torch.save(work(Ranks(rank, n), *arguments), folder / f"{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        (folder / f"{rank}.failed").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        raise
