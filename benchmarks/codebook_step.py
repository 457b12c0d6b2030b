"""Tokens per second of a training step: codebook variants beside TopK and BatchTopK, of the same size, interleaved.

chrt -r 1 python benchmarks/codebook_step.py [--d 512 --f 8192 --k 32 --b 2048 --rounds 4]

Medians over the rounds, of which the first is not counted. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time

import torch

from interp.code import ActivationBatch
from interp.loop import one_step
from saes import SAE, SAEConfig, create_sae, initialise
from saes.optimiser import make_optimiser

LR = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("d", 512), ("f", 8192), ("k", 32), ("b", 2048), ("rounds", 4), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batches = invented(options.d, options.f // 2, options.b)
    trainees = {name: trainee(config, batches[0]) for name, config in arms(options.f, options.k).items()}
    speeds: dict[str, list[float]] = {name: [] for name in trainees}
    for index in range(options.rounds + 1):
        batch = activations(batches[index % len(batches)])
        for name, (sae, optimiser) in trainees.items():
            begun = time.perf_counter()
            one_step(sae, optimiser, batch, lr=LR, clip_norm=1.0, step=1)
            speeds[name].append(options.b / (time.perf_counter() - begun))
    # The first round warms up.
    medians = {name: statistics.median(found[1:]) for name, found in speeds.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:10,.0f} tokens/s   {median / medians['topk']:.2f} of TopK's")
    rounded = {name: round(median) for name, median in medians.items()}
    print(json.dumps({"tokens_per_s": rounded, **vars(options)}))


def arms(f: int, k: int) -> dict[str, SAEConfig]:
    """What is compared."""
    variants = {
        "codebook plain": {},
        "codebook grouped, 4": {"codebook_variant": "grouped", "n_groups": 4},
        "codebook residual, 4": {"codebook_variant": "residual", "n_stages": 4},
        f"codebook residual, {k}": {"codebook_variant": "residual", "n_stages": k},
        f"codebook latent, {f // 8} × 8": {"codebook_variant": "latent", "k": f // 8, "levels": 8},
    }
    saes = {name: SAEConfig.parse({"architecture": name, "d_sae": f, "k": k}) for name in ("topk", "batch_topk")}
    return saes | {
        name: SAEConfig.parse({"architecture": "codebook", "d_sae": f, "k": k, **more})
        for name, more in variants.items()
    }


def trainee(config: SAEConfig, sample: torch.Tensor) -> tuple[SAE, torch.optim.Optimizer]:
    """A dictionary at its start."""
    sae = create_sae(config, sample.shape[1], hooks_in=("h",), token_budget=10**9)
    initialise(sae, sample, seed=0)
    return sae, make_optimiser(sae, LR)


def invented(d: int, n_atoms: int, b: int) -> list[torch.Tensor]:
    """Three batches of sparse sums of random directions."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(n_atoms, d, generator=generator), dim=1)
    found = []
    for _ in range(3):
        fires = torch.rand(b, n_atoms, generator=generator) < 40 / n_atoms
        strength = 4 * torch.rand(b, n_atoms, generator=generator)
        found.append((fires * strength) @ atoms + 0.1 * torch.randn(b, d, generator=generator))
    return found


def activations(x: torch.Tensor) -> ActivationBatch:
    """Tokens of no text."""
    nothing = torch.zeros(x.shape[0], dtype=torch.int64)
    return ActivationBatch({"h": x}, nothing, nothing, nothing)


if __name__ == "__main__":
    main()
