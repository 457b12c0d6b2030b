"""From which share of active features on the dense training step is faster than the sparse one.

usage: chrt -r 1 python benchmarks/dense_crossover.py [--threads N] [--clock cpu] [--device cpu] [--limit SECONDS]

At each size a standard SAE takes both paths through the whole step (losses and backward) on random codes: a bias makes
the wanted share of features fire. The share is doubled or halved until the other path is faster; where the two cross is
interpolated in logarithms. Small sizes come first; none is begun after the limit. The last line of standard output is
one JSON object, everything else goes to standard error. `saes/ops/crossover.py` keeps what it found.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import torch

from interp.code import ActivationBatch
from saes import SAE, SAEConfig, create_sae
from saes.ops import crossover

DEPTHS = (64, 192, 384, 512, 768, 1024, 2304)
WIDTHS = (1024, 4096, 8192, 16384)
SHARES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
N_TOKENS = 2048
N_TURNS = 2
ENOUGH_SECONDS = 1.0
"""Once so long has been spent at one share, there is no further turn."""
ALWAYS, NEVER = -1.0, 2.0
"""Shares from which on the dense path is taken: from any, from none."""

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def build(d: int, f: int, device: str) -> tuple[SAE, ActivationBatch]:
    """Unit-norm weights and unit-variance tokens: each pre-activation is standard normal."""
    config = SAEConfig(architecture="standard", d_sae=f, l0_control=False, l1_coefficient=1.0, dead_features="leave")
    sae = create_sae(config, d, hooks_in=("x",), device=device)
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(f, d, generator=generator), dim=1)
    with torch.no_grad():
        sae.W_enc.copy_(rows)
        sae.W_dec.copy_(rows)
    nothing = torch.zeros(N_TOKENS, dtype=torch.int64, device=device)
    x = torch.randn(N_TOKENS, d, generator=generator).to(device)
    return sae, ActivationBatch({"x": x}, nothing, nothing, nothing)


def seconds_of_step(sae: SAE, batch: ActivationBatch, dense_from: float, clock: Clock) -> float:
    """One step on the path that this threshold makes it take."""
    device = sae.W_enc.device.type
    crossover.TABLES[device] = (crossover.Crossing(1, 1, dense_from),)
    begun = clock()
    sae.losses(batch).loss.backward()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = clock() - begun
    for parameter in sae.parameters():
        parameter.grad = None
    return seconds


def both(sae: SAE, batch: ActivationBatch, share: float, clock: Clock) -> dict[str, float]:
    """The fastest of some turns of each path with this share of the features active."""
    with torch.no_grad():
        sae.b_enc.fill_(-math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - 2 * share, dtype=torch.float64))))
    turns: list[list[float]] = []
    while len(turns) < N_TURNS and sum(map(sum, turns)) < ENOUGH_SECONDS:
        turns.append([seconds_of_step(sae, batch, path, clock) for path in (NEVER, ALWAYS)])
    sparse, dense = (min(column) for column in zip(*turns, strict=True))
    return {"share": share, "sparse_seconds": sparse, "dense_seconds": dense}


def lead(point: dict[str, float]) -> float:
    """By how much the dense path is faster, in logarithms."""
    return math.log(point["sparse_seconds"] / point["dense_seconds"])


def crossing(points: list[dict[str, float]]) -> float:
    """The share at which both take the same time; the last one measured where none was found."""
    for low, high in pairwise(points):
        if lead(low) < 0 <= lead(high):
            part = -lead(low) / (lead(high) - lead(low))
            return low["share"] * (high["share"] / low["share"]) ** part
    return points[0]["share"] if lead(points[0]) >= 0 else points[-1]["share"]


def measure(d: int, f: int, first: float, options: argparse.Namespace) -> dict[str, Any]:
    """The crossing at one size, looked for from a first share: down from there, or up, until it is passed."""
    sae, batch = build(d, f, options.device)
    index = min(range(len(SHARES)), key=lambda i: abs(math.log(SHARES[i] / first)))
    points = [both(sae, batch, SHARES[index], CLOCKS[options.clock])]
    towards = -1 if lead(points[0]) >= 0 else 1
    while 0 <= (index := index + towards) < len(SHARES):
        points.append(both(sae, batch, SHARES[index], CLOCKS[options.clock]))
        if (lead(points[-1]) >= 0) != (lead(points[0]) >= 0):
            break
    points.sort(key=lambda point: point["share"])
    result = {"d": d, "f": f, "share": round(crossing(points), 3)}
    print(json.dumps(result), file=sys.stderr, flush=True)
    return {**result, "points": [{name: round(value, 4) for name, value in point.items()} for point in points]}


def main() -> None:
    """Measure the sizes that fit into the time and print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the measured process")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: processor time, for busy machines")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which no further size is begun")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    both(*build(DEPTHS[0], WIDTHS[0], options.device), SHARES[0], CLOCKS[options.clock])
    begun, left_out = time.monotonic(), []
    table: list[dict[str, Any]] = []
    for d, f in sorted(product(DEPTHS, WIDTHS), key=math.prod):
        if time.monotonic() - begun > options.limit:
            left_out.append([d, f])
        else:
            table.append(measure(d, f, table[-1]["share"] if table else SHARES[-2], options))
    print(json.dumps({"table": table, "left_out": left_out, "tokens": N_TOKENS, **vars(options)}))


main()
