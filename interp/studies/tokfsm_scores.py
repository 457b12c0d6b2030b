"""What a model knows of the machine: loss, accuracy, and whether the states that it expects can follow.

Axes: b rows, t position, s states.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.codebooks.tokfsm_results import MachineScores
from interp.models import Model
from interp.studies.tokfsm_machine import BASE, N_EDGES, N_STATES, Machine, longest_walk


@torch.no_grad()
def score_model(model: Model, machine: Machine, *, n_rows: int, seed: int, n_positions: int) -> MachineScores:
    """Scores on fresh rows; states are judged after a short, a middling and a long walk."""
    rows = machine.rows(n_rows, n_positions, torch.Generator().manual_seed(seed)).to(model.device)
    logits = _logits(model, rows)[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    accuracy = (logits.argmax(2) == rows[:, 1:]).float().mean()
    most = longest_walk(n_positions)
    lengths = sorted({1, max(1, most // 2), most})
    found = [_states_after(model, machine, rows[:: len(lengths), : 1 + 2 * n]) for n in lengths]
    overlap, valid = (torch.stack(parts).mean() for parts in zip(*found, strict=True))
    return MachineScores(float(loss), float(accuracy), float(overlap), float(valid))


def _states_after(model: Model, machine: Machine, rows: Int[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
    expected = next_states(model, rows)
    state = rows[:, -2] * BASE + rows[:, -1]
    can = torch.from_numpy(machine.transitions > 0).to(rows.device)[state]
    overlap = can.gather(1, expected.topk(N_EDGES, dim=1).indices).float().mean()
    return overlap, (expected * can).sum(1).mean()


@torch.no_grad()
def next_states(model: Model, rows: Int[Tensor, "b t"]) -> Float[Tensor, "b s"]:
    """Probability that the model gives to each next state, by its two digits; rows end with a whole state."""
    b = rows.shape[0]
    first = _logits(model, rows)[:, -1].softmax(1)[:, :BASE]
    digits = torch.arange(BASE, device=rows.device).repeat(b)
    longer = torch.cat([rows.repeat_interleave(BASE, dim=0), digits[:, None]], dim=1)
    second = _logits(model, longer)[:, -1].softmax(1)[:, :BASE].view(b, BASE, BASE)
    return (first[:, :, None] * second).view(b, N_STATES)


def _logits(model: Model, rows: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
    forward: Any = model.hf
    logits: Tensor = forward(rows, use_cache=False).logits
    return logits.float()
