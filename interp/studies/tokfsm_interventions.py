"""Codes of another state put in at one token: does the model go on as if it were there?

Axes: b rows, t position, n tokens, g groups, k active codes, c codes, s classes (states, or states with a digit).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Choose, Codebooks, Insertion
from interp.codebooks.inspection import contingency
from interp.codebooks.record import CodeRecord
from interp.codebooks.tokfsm_results import Kind, StateIntervention
from interp.models import Model
from interp.studies.tokfsm_machine import BASE, N_STATES, Machine, longest_walk, states_of

CodeTable = Mapping[str, Int[Tensor, "s g k"]]
"""By hook, the codes that stand for each class."""
MATCHED = 10
"""A control is one of so many codes of the same codebook that come next to the chosen one in frequency."""


def class_labels(token_ids: Int[Tensor, "b t"], kind: Kind) -> Int[Tensor, "b t"]:
    """The state that a token completes, or the state before it and the digit that it is; -1 elsewhere."""
    states = states_of(token_ids)
    if kind == "state":
        return states
    pairs = torch.full_like(token_ids, -1)
    pairs[:, 1:] = torch.where(states[:, :-1] >= 0, states[:, :-1] * BASE + token_ids[:, 1:], -1)
    return pairs


def expected_digits(machine: Machine, kind: Kind) -> Float[ndarray, "s digit"]:
    """Distribution of the next digit behind each class; zero rows where there is none."""
    if kind == "state":
        return machine.first_digit
    joint = machine.transitions.reshape(N_STATES * BASE, BASE)
    return np.asarray(joint / np.maximum(joint.sum(1, keepdims=True), 1e-12))


def codes_of_classes(record: CodeRecord, codebooks: Codebooks, labels: Int[ndarray, " n"], n_classes: int) -> CodeTable:
    """The k codes of each codebook that are active most often on tokens of each class."""
    table = {}
    for hook, quantiser in codebooks.items():
        counts = [contingency(record.book(hook, group), labels, n_classes) for group in range(quantiser.n_groups)]
        best = [np.argsort(-one, axis=0, kind="stable")[: quantiser.k].T for one in counts]
        table[hook] = torch.from_numpy(np.stack(best, axis=1).astype(np.int64))
    return table


def matched_codes(record: CodeRecord, codes: CodeTable, generator: np.random.Generator) -> CodeTable:
    """Each code replaced by another of the same codebook that is about as frequent."""
    drawn = {}
    for hook, chosen in codes.items():
        swapped = chosen.clone()
        for group in range(chosen.shape[1]):
            order = np.argsort(-record.book(hook, group).counts(), kind="stable")
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            own = rank[chosen[:, group].numpy()]
            # From the nearest ranks on both sides, its own left out; at the ends the window is moved.
            low = np.clip(own - MATCHED // 2, 0, max(0, len(order) - MATCHED - 1))
            other = low + generator.integers(0, min(MATCHED, len(order) - 1), size=own.shape)
            swapped[:, group] = torch.from_numpy(order[np.where(other >= own, other + 1, other) % len(order)])
        drawn[hook] = swapped
    return drawn


@dataclass(frozen=True, slots=True)
class Scene:
    """Rows that end with the token to intervene at, with other classes to turn to. Shapes: target (b,)."""

    rows: Int[Tensor, "b t"]
    target: Int[Tensor, " b"]
    wanted: Float[Tensor, "b digit"]
    own: Float[Tensor, "b digit"]


def draw_scene(machine: Machine, kind: Kind, *, n_rows: int, n_positions: int, seed: int) -> Scene:
    """Random walks, and for each another state, drawn from those that it could be in with its last token."""
    generator = torch.Generator().manual_seed(seed)
    n_states = longest_walk(n_positions)
    rows = machine.rows(n_rows, n_positions, generator)[:, : 1 + 2 * n_states + int(kind == "pair")]
    own = class_labels(rows, kind)[:, -1]
    expected = torch.from_numpy(expected_digits(machine, kind)).float()
    possible = expected.sum(1) > 0
    draws = []
    for label in own.tolist():
        can = possible.clone()
        can[label] = False
        if kind == "pair":
            can &= torch.arange(len(can)) % BASE == label % BASE
        places = can.nonzero()[:, 0]
        draws.append(int(places[torch.randint(len(places), (1,), generator=generator)]))
    target = torch.tensor(draws)
    return Scene(rows, target, expected[target], expected[own])


@torch.no_grad()
def intervene(
    model: Model,
    codebooks: Codebooks,
    record: CodeRecord,
    scene: Scene,
    *,
    kind: Kind,
    hooks: Sequence[str],
    where: str,
    n_controls: int,
    seed: int,
) -> StateIntervention:
    """Put the codes of the target class in at the last token of each row, and frequency-matched ones in their place."""
    labels = _record_labels(record, kind)
    codes = codes_of_classes(record, codebooks, labels, N_STATES * (BASE if kind == "pair" else 1))
    held = {hook: codes[hook] for hook in hooks}
    without = next_digits(model, codebooks, scene.rows)
    found = next_digits(model, codebooks, scene.rows, _putting(held, scene.target))
    base = float(jensen_shannon(without, scene.wanted).mean())
    generator = np.random.default_rng(seed)
    controls = [
        next_digits(model, codebooks, scene.rows, _putting(matched_codes(record, held, generator), scene.target))
        for _ in range(n_controls)
    ]
    can = scene.wanted > 0
    return StateIntervention(
        kind,
        where,
        float(jensen_shannon(found, scene.wanted).mean()) / base,
        float(jensen_shannon(without, scene.own).mean()) / base,
        float((without * can).sum(1).mean()),
        float((found * can).sum(1).mean()),
        tuple(float(jensen_shannon(control, scene.wanted).mean()) / base for control in controls),
        len(scene.rows),
    )


def _record_labels(record: CodeRecord, kind: Kind) -> Int[ndarray, " n"]:
    """Classes of recorded tokens, whose rows are BOS and digits: BOS is not recorded, so positions begin at 1."""
    ids, position = record.token_ids, record.position
    before = np.concatenate([[0], ids[:-1]])
    if kind == "state":
        return np.where(position % 2 == 0, before * BASE + ids, -1)
    two_before = np.concatenate([[0, 0], ids[:-2]])
    inside = (position % 2 == 1) & (position >= 3)
    return np.where(inside, (two_before * BASE + before) * BASE + ids, -1)


def _putting(codes: CodeTable, target: Int[Tensor, " b"]) -> dict[str, Choose]:
    def at(hook: str) -> Callable[[Tensor], Tensor]:
        def choose(ids: Int[Tensor, "b t g k"]) -> Int[Tensor, "b t g k"]:
            changed = ids.clone()
            changed[:, -1] = codes[hook].to(ids.device)[target.to(ids.device)]
            return changed

        return choose

    return {hook: at(hook) for hook in codes}


@torch.no_grad()
def next_digits(
    model: Model, codebooks: Codebooks, rows: Int[Tensor, "b t"], choose: Mapping[str, Choose] | None = None
) -> Float[Tensor, "b digit"]:
    """Probabilities of the next digit behind the last token."""
    forward: Any = model.hf
    with Insertion(model, codebooks, choose=choose):
        logits: Tensor = forward(rows.to(model.device), use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits.float().softmax(1)[:, :BASE].cpu()
