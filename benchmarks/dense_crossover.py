"""From which share of active features on the dense training step is faster than the sparse one.

usage: chrt -r 1 python benchmarks/dense_crossover.py [--threads N] [--clock cpu] [--device cpu] [--limit SECONDS]

At each size a standard SAE takes both paths through the whole step (losses and backward) on random codes: a bias makes
the wanted share of features fire. The share doubles until the dense path is faster; where the two cross is interpolated
in logarithms. Small sizes come first; none is begun after the limit. The last line of standard output is one JSON
object, everything else goes to standard error. `saes/ops/crossover.py` keeps what it found.
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
ALWAYS, NEVER = -1.0, 2.0
"""Shares from which on the dense path is taken: from any, from none."""

Clock = Callable[[], float]


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
    turns = [[seconds_of_step(sae, batch, path, clock) for path in (NEVER, ALWAYS)] for _ in range(N_TURNS)]
    sparse, dense = (min(column) for column in zip(*turns, strict=True))
    return {"share": share, "sparse_seconds": sparse, "dense_seconds": dense}


def crossing(points: list[dict[str, float]]) -> float | None:
    """The share at which both take the same time; None where the sparse path always won."""
    lead = [math.log(point["sparse_seconds"] / point["dense_seconds"]) for point in points]
    if lead[0] >= 0:
        return points[0]["share"]
    for (low, a), (high, b) in pairwise(zip(points, lead, strict=True)):
        if b >= 0:
            return low["share"] * (high["share"] / low["share"]) ** (-a / (b - a))
    return None


def measure(d: int, f: int, options: argparse.Namespace) -> dict[str, Any]:
    """The crossing at one size."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    sae, batch = build(d, f, options.device)
    both(sae, batch, SHARES[0], clock)
    points: list[dict[str, float]] = []
    for share in SHARES:
        points.append(both(sae, batch, share, clock))
        if points[-1]["sparse_seconds"] > points[-1]["dense_seconds"]:
            break
    found = crossing(points)
    result = {"d": d, "f": f, "share": None if found is None else round(found, 3)}
    print(json.dumps(result), file=sys.stderr, flush=True)
    return {**result, "points": [{name: round(value, 4) for name, value in point.items()} for point in points]}


def main() -> None:
    """Measure the sizes that fit into the time and print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the measured process")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, for busy machines"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which no further size is begun")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    begun, table, left_out = time.monotonic(), [], []
    for d, f in sorted(product(DEPTHS, WIDTHS), key=math.prod):
        if time.monotonic() - begun > options.limit:
            left_out.append([d, f])
        else:
            table.append(measure(d, f, options))
    print(json.dumps({"table": table, "left_out": left_out, "tokens": N_TOKENS, **vars(options)}))


main()
