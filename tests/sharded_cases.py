"""What each rank does in the tests of sharding, and the same by one process: importable, since processes run it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.checkpoints import TrainState
from interp.code import Code
from interp.distributed import ALONE, Ranks
from interp.loop import update
from saes import SAE
from saes.ops.acceleration import acceleration
from saes.ops.encode import Preactivations
from saes.ops.merge import merge_per_batch, merge_per_token
from saes.ops.select import select_per_batch, select_per_token
from saes.optimiser import make_optimiser
from saes.sharded import ShardedSAE
from saes.sharded_create import create_sharded
from saes.sharded_state import gather_state, gather_weights, scatter_weights
from tests.steps import HOOKS, batch_of, disturb, new_sae, planted


@dataclass(frozen=True)
class Case:
    """An SAE, and how it is trained: what it is like, and how many of its features have not fired for long.

    Where dead features are resampled, they cannot fire before they are.
    """

    sae: dict[str, Any]
    dead: int = 0
    wiring: str = "plain"
    n_steps: int = 1
    n_tokens: int = 96
    lr: float = 3e-3
    dtype: torch.dtype = torch.float64
    starts: str = "disturbed"

    def whole(self) -> SAE:
        """The SAE before its first step."""
        # Some of what disturbs draws from the process's own generator.
        torch.manual_seed(0)
        sae = new_sae(wiring=self.wiring, dtype=self.dtype, **self.sae)
        sae = disturb(sae) if self.starts == "disturbed" else sae
        sae.tokens_since_fired[self.dead_features()] = 10**9
        if sae.config.revival == "resample":
            with torch.no_grad():
                sae.b_enc[self.dead_features()] = -50.0
        return sae

    def dead_features(self) -> Tensor:
        """Spread over the ranks, since one in seven is counted."""
        return torch.arange(self.dead) * 7 % int(self.sae["d_sae"])

    def batch(self, step: int) -> Any:
        """The batch of a step."""
        return batch_of(planted(self.n_tokens, seed=100 + step, dtype=self.dtype))


@dataclass(frozen=True)
class Outcome:
    """What a step or several gave: of the whole, and the terms of every step."""

    tensors: dict[str, Tensor]
    slots: dict[str, Tensor]
    terms: list[dict[str, float]]
    norms: list[float]
    bias: Tensor
    optimiser: str


def one_process(case: Case) -> Outcome:
    """The steps of a case as they are without ranks."""
    return _fit(case, sae := case.whole(), sae)


def one_of_many(ranks: Ranks, cases: list[Case]) -> list[Outcome]:
    """The steps of each case by one rank of several; at rank 0 with the state of the whole."""
    return [_spread(ranks, case) for case in cases]


def by_kernels(ranks: Ranks, cases: list[Case]) -> list[Outcome]:
    """The same through the kernels of a GPU."""
    with acceleration("triton"):
        return one_of_many(ranks, cases)


def _spread(ranks: Ranks, case: Case) -> Outcome:
    whole = case.whole()
    where = {"token_budget": whole.token_budget, "dtype": case.dtype, **HOOKS[case.wiring]}
    task = create_sharded(whole.config, whole.d_in, ranks, **where)
    scatter_weights(lambda: whole, task)
    return _fit(case, task, task.own)


def _fit(case: Case, task: Any, sae: SAE) -> Outcome:
    optimiser = make_optimiser(sae, case.lr, ranks=task.ranks if isinstance(task, ShardedSAE) else ALONE)
    terms, norms = [], []
    for step in range(case.n_steps):
        report = task.losses(case.batch(step))
        norms.append(update(task, optimiser, report, lr=case.lr, clip_norm=1.0, step=step + 1))
        terms.append({name: float(value) for name, value in report.terms.items() if name != "fallbacks"})
    slots = {
        f"{index}.{name}": value
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }
    tensors = sae.state_dict()
    if isinstance(task, ShardedSAE):
        state = gather_state(TrainState(1, 1, tensors, slots, {}, {}, 0), task, optimiser)
        assert all(torch.equal(state.tensors[name], x) for name, x in gather_weights(task).items())
        tensors, slots = dict(state.tensors), dict(state.optimiser)
    return Outcome(tensors, slots, terms, norms, sae.b_dec.detach().clone(), type(optimiser).__name__)


@dataclass(frozen=True)
class Chosen:
    """Entries of a code, sorted by token and then feature."""

    rows: Tensor
    features: Tensor
    values: Tensor

    @staticmethod
    def of(code: Code, first: int = 0) -> "Chosen":
        """The entries of a code whose features begin at `first`."""
        return Chosen(code.rows(), code.features + first, code.values)


def tied(n_tokens: int, d_sae: int, seed: int, *, levels: int = 3) -> Preactivations:
    """Pre-activations of few different values, so that most entries tie, and some tokens have none above zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-levels, levels + 1, (n_tokens, d_sae), generator=generator).float()
    values[::5] = -1.0
    return Preactivations(torch.eye(n_tokens), values.t().contiguous(), torch.zeros(d_sae))


def merged(ranks: Ranks, sizes: list[tuple[int, int, int]]) -> list[list[Chosen]]:
    """This rank's part of selections per token and per batch, for (tokens, features, k)."""
    found = []
    for seed, (n_tokens, d_sae, k) in enumerate(sizes):
        pre = tied(n_tokens, d_sae, seed)
        begin, end = ranks.span(d_sae)
        own = Preactivations(pre.centred, pre.weight[begin:end], pre.bias[begin:end])
        per_token = merge_per_token(select_per_token(own, k).code, k, ranks)
        per_batch = merge_per_batch(select_per_batch(own, k).code, k, ranks)
        found.append([Chosen.of(per_token, begin), Chosen.of(per_batch, begin)])
    return found
