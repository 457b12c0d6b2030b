"""Seconds of a full activation patching sweep, beside the same with TransformerLens's bridge.

    python benchmarks/patching.py --model embedded --rounds 5

Every cell of layer × position × component (residual stream before the block, attention output, MLP output) is patched
with clean activations in the corrupt pass, one at a time. Both arms put as many cells into a forward pass (--rows rows,
all pairs of a cell beside each other), in the same dtype, on the same pairs, and give the logit difference of each:
  ours    interp.patching.patch_sweep without its bootstrap (interp.sweep_passes.swept and the unpatched passes)
  bridge  run_with_cache of the clean prompts, then run_with_hooks of the corrupt ones for each batch of cells of a hook
The arms take turns, after one round of warming up. On a CPU processor seconds count, so that what else runs there does
not. Printed are medians, the ratio of each round, and the largest disagreement of the outcomes, absolute and relative
to the clean-corrupt difference. The last line is one JSON object.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor

from interp.errors import InterpError
from interp.forward import last_outputs
from interp.interventions import From
from interp.models import DTYPES, Model, load_model
from interp.outcomes import LOGIT_DIFFERENCE
from interp.patching import ends_of
from interp.prompts import PromptPairs, prompts_of
from interp.sweep_cells import Cells, block_cells, every_position
from interp.sweep_passes import swept


def random_pairs(model: Model, n_pairs: int, n_positions: int) -> PromptPairs:
    """Rows of random tokens; the corrupt ones differ in a third of the places."""
    draw = torch.Generator().manual_seed(0)
    clean = torch.randint(3, model.d_vocab, (n_pairs, n_positions), generator=draw)
    other = torch.randint(3, model.d_vocab, (n_pairs, n_positions), generator=draw)
    corrupt = torch.where(torch.rand(clean.shape, generator=draw) < 1 / 3, other, clean)
    answers, foils = (torch.randint(3, model.d_vocab, (n_pairs,), generator=draw).tolist() for _ in range(2))
    return PromptPairs(*(prompts_of(side.tolist(), answers=answers, foils=foils) for side in (clean, corrupt)))


@torch.no_grad()
def ours(model: Model, pairs: PromptPairs, cells: Cells, rows: int) -> Tensor:
    """Outcomes (cells, pairs), with the unpatched passes that a sweep needs."""
    changed, source = ends_of(pairs, "denoising")
    for side in (changed, source):
        LOGIT_DIFFERENCE(last_outputs(model, side), side)
    values = From(source).prepare(model, changed, cells.components, {})(slice(None))
    return swept(
        model, changed, cells.components, values, LOGIT_DIFFERENCE, dictionaries={}, rows_per_pass=rows
    )  # fmt: skip


@torch.no_grad()
def with_bridge(model: Model, pairs: PromptPairs, cells: Cells, rows: int) -> Tensor:
    """The same in plain TransformerLens: cells of one hook share a pass."""
    bridge, n_pairs = model.bridge, len(pairs)
    changed, source = ends_of(pairs, "denoising")
    hooks = list(dict.fromkeys(component.hook for component in cells.components))
    clean_ids, corrupt_ids = source.token_ids.to(model.device), changed.token_ids.to(model.device)
    _, cache = bridge.run_with_cache(clean_ids, names_filter=hooks)
    bridge(corrupt_ids)
    per_pass, found = max(1, rows // n_pairs), dict[int, Tensor]()
    for hook in hooks:
        members = [index for index, component in enumerate(cells.components) if component.hook == hook]
        for start in range(0, len(members), per_pass):
            chosen = members[start : start + per_pass]

            def patch(x: Tensor, hook: object, chosen: list[int] = chosen, clean: Tensor = cache[hook]) -> Tensor:  # noqa: ARG001
                for block, index in enumerate(chosen):
                    position = cells.components[index].position
                    assert isinstance(position, int)
                    x[block * n_pairs : (block + 1) * n_pairs, position] = clean[:, position]
                return x

            logits = bridge.run_with_hooks(corrupt_ids.repeat(len(chosen), 1), fwd_hooks=[(hook, patch)])
            outcome = LOGIT_DIFFERENCE(logits[:, -1], changed.repeat(len(chosen)))
            found |= dict(zip(chosen, outcome.view(len(chosen), n_pairs).double().cpu(), strict=True))
    return torch.stack([found[index] for index in range(len(cells.components))])


def seconds_of(arm: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Of the clock on a GPU; of the processor otherwise, so that what else runs on the machine does not count."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    found = arm()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started, found


def measure(model: Model, pairs: PromptPairs, rows: int, rounds: int) -> dict[str, object]:
    """Medians, ratios and disagreement of the two arms."""
    cells = block_cells(model, places=every_position(model, pairs))
    arms = {"ours": ours, "bridge": with_bridge}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    found: dict[str, Tensor] = {}
    for index in range(-1, rounds):
        for name in list(arms) if index % 2 else list(arms)[::-1]:
            arm = arms[name]
            took, found[name] = seconds_of(lambda arm=arm: arm(model, pairs, cells, rows), model.device)  # type: ignore[misc]
            if index >= 0:
                seconds[name].append(took)
    clean, corrupt = (
        LOGIT_DIFFERENCE(last_outputs(model, side), pairs.clean).double() for side in (pairs.clean, pairs.corrupt)
    )
    apart = (found["ours"] - found["bridge"]).abs().max()
    ratios = [theirs / own for own, theirs in zip(seconds["ours"], seconds["bridge"], strict=True)]
    return {
        "cells": len(cells.components),
        "grid": list(cells.shape),
        "ours_s": round(statistics.median(seconds["ours"]), 4),
        "bridge_s": round(statistics.median(seconds["bridge"]), 4),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "largest_disagreement": float(apart),
        "relative_disagreement": float(apart / (clean - corrupt).abs().mean().cpu()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, a folder or a hub name")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--positions", type=int, default=32, help="tokens per row, at most the model's context")
    parser.add_argument("--rows", type=int, default=64, help="rows of a forward pass, in both arms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    given = parser.parse_args()
    model = load_model(given.model, device=given.device, dtype=given.dtype)
    pairs = random_pairs(model, given.pairs, min(given.positions, model.context_size))
    with torch.no_grad():
        result = measure(model, pairs, given.rows, given.rounds)
    setting = {
        "model": model.name,
        "dtype": given.dtype,
        "pairs": given.pairs,
        "positions": pairs.clean.token_ids.shape[1],
        "rows_per_pass": given.rows,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }
    print(json.dumps(result | setting))


if __name__ == "__main__":
    try:
        main()
    except InterpError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
