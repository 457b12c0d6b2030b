"""What a model knows of the machine: loss, accuracy, and whether the states that it expects can follow.

Axes: b rows, t position, s states.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.codebooks.tokfsm_results import MachineScores
from interp.models import Model
from interp.studies.tokfsm_machine import BASE, N_EDGES, N_STATES, Machine, longest_walk

FORWARD_TOKENS = 1 << 15
"""Tokens of one forward pass at most: with many codes, what is kept of each weighs more than the model itself."""


@torch.no_grad()
def score_model(model: Model, machine: Machine, *, n_rows: int, seed: int, n_positions: int) -> MachineScores:
    """Scores on fresh rows; states are judged after a short, a middling and a long walk."""
    rows = machine.rows(n_rows, n_positions, torch.Generator().manual_seed(seed)).to(model.device)
    parts = [_predicted(model, part) for part in forward_batches(rows)]
    nats, right = (torch.cat(column).mean() for column in zip(*parts, strict=True))
    most = longest_walk(n_positions)
    lengths = sorted({1, max(1, most // 2), most})
    found = [_states_after(model, machine, rows[:: len(lengths), : 1 + 2 * n]) for n in lengths]
    overlap, valid = (torch.stack(parts).mean() for parts in zip(*found, strict=True))
    return MachineScores(float(nats), float(right), float(overlap), float(valid))


def _predicted(model: Model, rows: Int[Tensor, "b t"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Nats of each token but the first, and whether it was thought likeliest."""
    logits, targets = _logits(model, rows)[:, :-1].flatten(0, 1), rows[:, 1:].flatten()
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return nats, (logits.argmax(1) == targets).float()


def _states_after(model: Model, machine: Machine, rows: Int[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
    expected = next_states(model, rows)
    state = rows[:, -2] * BASE + rows[:, -1]
    can = torch.from_numpy(machine.transitions > 0).to(rows.device)[state]
    overlap = can.gather(1, expected.topk(N_EDGES, dim=1).indices).float().mean()
    return overlap, (expected * can).sum(1).mean()


@torch.no_grad()
def next_states(model: Model, rows: Int[Tensor, "b t"]) -> Float[Tensor, "b s"]:
    """Probability that the model gives to each next state, by its two digits; rows end with a whole state."""
    return torch.cat([_next_states(model, part) for part in forward_batches(rows, times=BASE)])


def _next_states(model: Model, rows: Int[Tensor, "b t"]) -> Float[Tensor, "b s"]:
    b = rows.shape[0]
    first = _logits(model, rows)[:, -1].softmax(1)[:, :BASE]
    digits = torch.arange(BASE, device=rows.device).repeat(b)
    longer = torch.cat([rows.repeat_interleave(BASE, dim=0), digits[:, None]], dim=1)
    second = _logits(model, longer)[:, -1].softmax(1)[:, :BASE].view(b, BASE, BASE)
    return (first[:, :, None] * second).view(b, N_STATES)


def forward_batches(rows: Int[Tensor, "b t"], *, times: int = 1) -> Iterator[Int[Tensor, "n t"]]:
    """Rows in their order, as many at once as a forward may take when each comes `times` over, one token longer."""
    yield from rows.split(max(1, FORWARD_TOKENS // (times * (rows.shape[1] + 1))))


def _logits(model: Model, rows: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
    forward: Any = model.hf
    logits: Tensor = forward(rows, use_cache=False).logits
    return logits.float()
