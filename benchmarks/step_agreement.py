"""Whether SAELens and we compute the same function: loss curves, and the gradients of the first step."""

import argparse
from pathlib import Path
from typing import Any

from step_arms import PEERS, PENALISED, WORKING_LR
from step_process import Worker, worker
from step_task import Task


def agreement(task: Task, folder: Path, options: argparse.Namespace) -> dict[str, float] | str:
    """Largest relative differences of the terms of the loss, over the curve and in the first step alone.

    SAELens leaves decoder norms free: our `decoder_norm: free`. `gradient_…` compares what Adam has gathered after the
    first step, which is the clipped gradient. Penalised arms go on at a learning rate at which they learn.
    """
    peers = PEERS[task.architecture]
    if not peers.saelens:
        return "none"
    penalised = task.architecture in PENALISED
    same: dict[str, Any] = {"lr": WORKING_LR}
    with worker("ours", folder, {"decoder_norm": "free", "one_lr": True, **same}, options) as ours:
        run(ours, options)
    with worker("saelens", folder, {**peers.exact, **same}, options) as peer:
        run(peer, options)
    gaps = {name: largest_gap(ours, peer, name) for name in ours.terms[0] if name in peer.terms[0]}
    if penalised:
        gaps |= {f"{name}_step_1": largest_gap(ours, peer, name, n=1) for name in tuple(gaps)}
    gaps |= {f"gradient_{name}_step_1": abs(ours.moments[name] / peer.moments[name] - 1) for name in ours.moments}
    with worker("ours", folder, same, options) as unit:
        run(unit, options)
    return {**gaps, "mse_with_unit_decoder": largest_gap(unit, peer, "mse")}


def run(one: Worker, options: argparse.Namespace) -> None:
    """A step whose gradients are looked at, and the rest of the curve."""
    one.ask(steps=1, moments=True)
    one.ask(steps=3 if options.quick else 23)


def largest_gap(ours: Worker, peer: Worker, term: str, n: int | None = None) -> float:
    """Largest relative difference of a term over all steps, or the first n."""
    return max(abs(a[term] / b[term] - 1) for a, b in zip(ours.terms[:n], peer.terms[:n], strict=True))
