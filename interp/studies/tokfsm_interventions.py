"""Codes of another state put in at one token: does the model go on as if it were there?

Axes: b rows, t position, g groups, k active codes, s classes (states, or states with a digit).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Choose, Codebooks, Insertion
from interp.codebooks.record import CodeRecord
from interp.codebooks.tokfsm_results import Kind, StateIntervention
from interp.errors import DataError
from interp.models import Model
from interp.studies.tokfsm_codes import ClassCodes, CodeTable, class_labels, matched_codes
from interp.studies.tokfsm_machine import BASE, N_STATES, Machine, longest_walk
from interp.studies.tokfsm_scores import forward_batches


def expected_digits(machine: Machine, kind: Kind) -> Float[ndarray, "s digit"]:
    """Distribution of the next digit behind each class; zero rows where there is none."""
    if kind == "state":
        return machine.first_digit
    joint = machine.transitions.reshape(N_STATES * BASE, BASE)
    return np.asarray(joint / np.maximum(joint.sum(1, keepdims=True), 1e-12))


@dataclass(frozen=True, slots=True)
class Scene:
    """Rows that end with the token to intervene at, with other classes to turn to. Shapes: target (b,)."""

    rows: Int[Tensor, "b t"]
    target: Int[Tensor, " b"]
    wanted: Float[Tensor, "b digit"]
    own: Float[Tensor, "b digit"]


def draw_scene(
    machine: Machine,
    kind: Kind,
    *,
    n_rows: int,
    n_positions: int,
    seed: int,
    recorded: Bool[Tensor, " s"] | None = None,
) -> Scene:
    """Random walks, and for each another state, drawn from those that it could be in with its last token.

    `recorded` are the classes to draw from, all without it.
    Raises: DataError if there is none to turn to.
    """
    generator = torch.Generator().manual_seed(seed)
    n_states = longest_walk(n_positions)
    rows = machine.rows(n_rows, n_positions, generator)[:, : 1 + 2 * n_states + int(kind == "pair")]
    own = class_labels(rows, kind)[:, -1]
    expected = torch.from_numpy(expected_digits(machine, kind)).float()
    possible = expected.sum(1) > 0
    possible = possible if recorded is None else possible & recorded
    draws = []
    for label in own.tolist():
        can = possible.clone()
        can[label] = False
        if kind == "pair":
            can &= torch.arange(len(can)) % BASE == label % BASE
        places = can.nonzero()[:, 0]
        if not len(places):
            raise DataError(f"{kind} {label}: no other one that was recorded to turn to; record more tokens")
        draws.append(int(places[torch.randint(len(places), (1,), generator=generator)]))
    target = torch.tensor(draws)
    return Scene(rows, target, expected[target], expected[own])


@torch.no_grad()
def intervene(
    model: Model,
    codebooks: Codebooks,
    record: CodeRecord,
    scene: Scene,
    known: ClassCodes,
    *,
    hooks: Sequence[str],
    where: str,
    n_controls: int,
    seed: int,
) -> StateIntervention:
    """Put the codes of the target class in at the last token of each row, and frequency-matched ones in their place.

    Raises: DataError if a target was never recorded.
    """
    targets, at = scene.target.unique(return_inverse=True)
    if (unknown := targets[~known.recorded[targets]]).numel():
        raise DataError(f"{known.kind} {int(unknown[0])}: was never recorded, so its codes are not known; record more")
    codes = {hook: known.codes[hook][targets] for hook in hooks}

    def digits(codes: CodeTable) -> Float[Tensor, "b digit"]:
        rows = list(forward_batches(scene.rows))
        parts = zip(rows, at.split([len(part) for part in rows]), strict=True)
        return torch.cat([next_digits(model, codebooks, part, _putting(codes, own)) for part, own in parts])

    without, found = digits({}), digits(codes)
    base = float(jensen_shannon(without, scene.wanted).mean())
    generator = np.random.default_rng(seed)
    controls = [digits(matched_codes(record, codes, generator)) for _ in range(n_controls)]
    can = scene.wanted > 0
    return StateIntervention(
        known.kind,
        where,
        float(jensen_shannon(found, scene.wanted).mean()) / base,
        float(jensen_shannon(without, scene.own).mean()) / base,
        float((without * can).sum(1).mean()),
        float((found * can).sum(1).mean()),
        tuple(float(jensen_shannon(control, scene.wanted).mean()) / base for control in controls),
        len(scene.rows),
    )


def _putting(codes: CodeTable, target: Int[Tensor, " b"]) -> dict[str, Choose]:
    """Codes in place of the nearest at the last token; target (b,) are rows of the table."""

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
