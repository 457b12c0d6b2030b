"""Peak memory of a training step on one and on several ranks of a processor, beside what is planned for it.

    python benchmarks/memory_ranks.py [--d-in 512] [--d-sae 8192 32768] [--batch-size 1024] [--ranks 1 2 4]

Gloo processes of this machine, no language model. The peak is above that of a small step of the same kind, which has
loaded whatever is loaded at first use. The last line is one JSON object.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from interp.code import ActivationBatch
from interp.distributed import ALONE, Ranks
from interp.loop import one_step
from saes.config import SAEConfig
from saes.optimiser import make_optimiser
from saes.planning.accelerators import accelerator
from saes.planning.counts import Counts
from saes.planning.machine import peak_bytes
from saes.planning.spread_plan import step_workspace
from saes.sharded_create import create_sharded
from saes.train_config import TrainConfig
from tests.ranks import on_ranks

HOOK, N_STEPS, LR = "blocks.1.hook_resid_post", 2, 1e-4


def steps(ranks: Ranks, config: SAEConfig, batch: ActivationBatch, n_steps: int) -> None:
    """Some steps of a dictionary of random directions."""
    d_in = batch.acts[HOOK].shape[1]
    task = create_sharded(config, d_in, ranks, hooks_in=(HOOK,), token_budget=10**7)
    for weight in (task.own.W_dec, task.own.W_enc):
        torch.nn.init.normal_(weight)
    optimiser = make_optimiser(task.own, LR, ranks=ranks)
    for step in range(n_steps):
        one_step(task, optimiser, batch, lr=LR, clip_norm=1.0, step=step + 1)


def grown(ranks: Ranks, config: SAEConfig, d_in: int, n_tokens: int) -> int:
    """Bytes that the steps added to the peak of this process."""
    place = torch.zeros(n_tokens, dtype=torch.int64)
    batch = ActivationBatch({HOOK: torch.randn(n_tokens, d_in)}, place, place, place)
    steps(ALONE, config.model_copy(update={"d_sae": 4 * config.k}), batch.take(slice(0, 32)), 1)
    before = peak_bytes(torch.device("cpu"))
    steps(ranks, config, batch, N_STEPS)
    return peak_bytes(torch.device("cpu")) - before


def planned(config: SAEConfig, d_in: int, n_tokens: int, n_ranks: int) -> float:
    """What the plan counts for the same: weights, gradients, optimiser and the step's own."""
    given = {"hook": HOOK, "tokens": 10**7, "batch_size": n_tokens, "sae": config.model_dump(exclude_unset=True)}
    # Of the model, which does not run here, only the width is asked.
    counts = Counts(TrainConfig.parse(given), d_in, 1e6, 1000, 4)
    on = replace(accelerator("h100"), name="cpu")
    return counts.trained_bytes / n_ranks + step_workspace(counts, n_ranks, on)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d-in", type=int, default=512)
    parser.add_argument("--d-sae", type=int, nargs="+", default=[8192, 32768])
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    given, found = parser.parse_args(), []
    for architecture in ("topk", "matryoshka"):
        for d_sae in given.d_sae:
            config = SAEConfig(architecture=architecture, d_sae=d_sae, k=32)
            for n in given.ranks:
                peaks = on_ranks(n, grown, config, given.d_in, given.batch_size)
                plan = planned(config, given.d_in, given.batch_size, n)
                told = {"architecture": architecture, "d_sae": d_sae, "ranks": n, "planned_mb": round(plan / 1e6)}
                found.append(told | {"of_plan": [round(peak / plan, 3) for peak in peaks]})
                print(json.dumps(found[-1]), file=sys.stderr)
    print(json.dumps({"d_in": given.d_in, "batch_size": given.batch_size, "runs": found}))


if __name__ == "__main__":
    # Under its own name: the processes must find its functions again.
    import memory_ranks

    memory_ranks.main()
