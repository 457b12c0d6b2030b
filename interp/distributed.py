"""Processes that work on one run, as `torchrun` starts them: who they are, what they exchange, what a lost one means.

Rank 0 alone writes files and speaks; the others do their share. Whatever is exchanged, all ranks ask for in the same
order. A rank that is lost, or silent for too long, ends all others with a RankLostError.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from interp.errors import ConfigError, InterpError, RankLostError
from interp.launcher import local_rank, n_ranks, own_rank

T = TypeVar("T")
TIMEOUT = "INTERP_RANK_TIMEOUT"
"""Environment variable: seconds after which a rank that does not answer counts as lost."""
TIMEOUT_SECONDS = 1800.0
"""Unless that says otherwise: longer than writing any checkpoint takes."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of a run. One alone exchanges nothing."""

    rank: int = 0
    n: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def span(self, n_rows: int, rank: int | None = None) -> tuple[int, int]:
        """First row, and the one after the last, of a rank's part of `n_rows`: parts differ by one row at most."""
        rank = self.rank if rank is None else rank
        return n_rows * rank // self.n, n_rows * (rank + 1) // self.n

    def add(self, x: Tensor) -> Tensor:
        """The sum over ranks, in the place of `x`; the same bytes at every rank."""
        return self._reduce(x, dist.ReduceOp.SUM)

    def least(self, x: Tensor) -> Tensor:
        """The minimum over ranks, in the place of `x`."""
        return self._reduce(x, dist.ReduceOp.MIN)

    def most(self, x: Tensor) -> Tensor:
        """The maximum over ranks, in the place of `x`."""
        return self._reduce(x, dist.ReduceOp.MAX)

    def total(self, *counts: int | float) -> tuple[float, ...]:
        """Numbers of the host added up over ranks."""
        return tuple(self.add(torch.tensor(counts, dtype=torch.float64)).tolist())

    def gather(self, x: Tensor) -> Tensor:
        """The tensors of all ranks, stacked; shape and format must be the same everywhere."""
        if self.n == 1:
            return x[None]
        everyone = x.new_empty(self.n, *x.shape)
        # As bytes: not every back end knows every number format. What is empty is so at every rank.
        if x.numel():
            parts = [part.view(-1).view(torch.uint8) for part in everyone]
            with _together():
                dist.all_gather(parts, x.contiguous().view(-1).view(torch.uint8))
        return everyone

    def gather_rows(self, x: Tensor, n_rows: int) -> Tensor | None:
        """Rows of all ranks one after another, on rank 0's CPU: `x` has this rank's part of `n_rows`."""
        if self.n == 1:
            return x.detach().cpu()
        mine = _padded(x.detach().cpu(), self._most_rows(n_rows))
        parts = [torch.empty_like(mine) for _ in range(self.n)] if self.first else None
        with _together():
            dist.gather(mine, parts)
        if parts is None:
            return None
        spans = [self.span(n_rows, rank) for rank in range(self.n)]
        return torch.cat([part[: end - begin] for part, (begin, end) in zip(parts, spans, strict=True)])

    def scatter_rows(self, whole: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """This rank's part of the rows of `whole`, which rank 0 has on its CPU, of this shape and format."""
        if self.n == 1 and whole is not None:
            return whole
        most, spans = self._most_rows(shape[0]), [self.span(shape[0], rank) for rank in range(self.n)]
        mine = torch.empty(most, *shape[1:], dtype=dtype)
        parts = None if whole is None else [_padded(whole[begin:end], most) for begin, end in spans]
        with _together():
            dist.scatter(mine, parts)
        begin, end = spans[self.rank]
        return mine[: end - begin]

    def from_first(self, work: Callable[[], T]) -> T:
        """What rank 0's `work` gave, at every rank; the others do not do it.

        Raises: at every rank, the InterpError that it raised.
        """
        if self.n == 1:
            return work()
        told: list[Any] = [None, None]
        if self.first:
            try:
                told[0] = work()
            except InterpError as error:
                told[1] = error
        with _together():
            dist.broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        result: T = told[0]
        return result

    def all_objects(self, mine: T) -> list[T]:
        """Small plain values of all ranks."""
        if self.n == 1:
            return [mine]
        found: list[Any] = [None] * self.n
        with _together():
            dist.all_gather_object(found, mine)
        return found

    def check_same(self, what: str, value: Any) -> None:
        """Raises: ConfigError at every rank if `value` differs between ranks."""
        values = self.all_objects(value)
        odd = next((rank for rank, other in enumerate(values) if other != values[0]), None)
        if odd is not None:
            raise ConfigError(
                f"{what}: rank {odd} has {str(values[odd])[:80]}, rank 0 has {str(values[0])[:80]}; "
                "give all ranks the same files and the same command"
            )

    def _most_rows(self, n_rows: int) -> int:
        return -(-n_rows // self.n)

    def _reduce(self, x: Tensor, operation: Any) -> Tensor:
        if self.n > 1:
            with _together():
                dist.all_reduce(x, operation)
        return x


ALONE = Ranks()


def _padded(x: Tensor, n_rows: int) -> Tensor:
    if x.shape[0] == n_rows:
        return x.contiguous()
    return torch.cat([x, x.new_zeros(n_rows - x.shape[0], *x.shape[1:])])


@contextmanager
def _together() -> Iterator[None]:
    """Raises: RankLostError where another rank went away, or did not answer in time."""
    try:
        yield
    except RuntimeError as error:
        # How torch says that a connection was closed, or that a time limit has passed, and where in its source.
        said = re.sub(r"\[[^\]]*\.cc:\d+\]", "", str(error)).strip()
        raise RankLostError(_lost(" ".join(said.split(". ")[0].split())[:160])) from None


def _lost(reason: str) -> str:
    return f"another rank was lost ({reason}); what was checkpointed is kept: go on with --resume, on fewer ranks too"


@contextmanager
def opened_ranks() -> Iterator[Ranks]:
    """The processes that `torchrun` started, connected; those after the first are silent until they end.

    Raises: RankLostError if they cannot find each other, or one is lost; ConfigError for a time limit that is none.
    """
    ranks = Ranks(own_rank(), n_ranks())
    if ranks.n == 1:
        yield ALONE
        return
    on_gpu = torch.cuda.is_available() and local_rank() < torch.cuda.device_count()
    if on_gpu:
        torch.cuda.set_device(local_rank())
    limit = timedelta(seconds=_timeout())
    with _together():
        where: dict[str, Any] = {"rank": ranks.rank, "world_size": ranks.n, "timeout": limit}
        store, _, _ = next(iter(rendezvous("env://", ranks.rank, ranks.n, timeout=limit)))
        # Restarted on one machine, ranks meet in the store where those before them left their addresses.
        if os.environ.get("GROUP_WORLD_SIZE") == "1":
            store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=store, **where)
    try:
        with _ended_by_term(), _silent(ranks):
            yield ranks
            # Not where something went wrong: whoever is lost cannot take part in parting.
            with _together():
                dist.barrier()
    finally:
        # Without it, the end of the process is an abort of its own.
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _timeout() -> float:
    text = os.environ.get(TIMEOUT, str(TIMEOUT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"{TIMEOUT}: got {text!r}; expected a number of seconds above zero")
    return seconds


@contextmanager
def _silent(ranks: Ranks) -> Iterator[None]:
    """One log: what ranks after the first would print goes nowhere. Errors are told outside of this."""
    if ranks.first:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def _ended_by_term() -> Iterator[None]:
    """`torchrun` ends the others by SIGTERM once one has failed: they shall say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise RankLostError(_lost("torchrun ended this one"))

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        # On its way out: what it has to say shall not be cut off.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)


def check_devices(ranks: Ranks, device: torch.device) -> None:
    """For a device as it was named: where there are several ranks, `cuda` is each one's own GPU.

    Raises: ConfigError if ranks outnumber the GPUs of their machine, or shall all use the same one.
    """
    if ranks.n == 1 or device.type != "cuda":
        return
    if device.index is not None:
        raise ConfigError(f"device: got {device} on {ranks.n} ranks, each of which takes its own GPU; give cuda")
    if local_rank() >= (n := torch.cuda.device_count()):
        raise ConfigError(f"torchrun: got more ranks than this machine's {n} GPUs; give --nproc-per-node {n}")
