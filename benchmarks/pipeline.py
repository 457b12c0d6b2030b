"""Tokens per second of whole training runs, by how the model is run: what is made ahead, and whether it is compiled.

    python benchmarks/pipeline.py --tokens 600k --rounds 3

The arms run in turn, in an order that rotates each round, each as `interp train` in a folder that is thrown away:
  plain    nothing ahead
  ahead    8 batches ahead, by threads: of tokens and, on a processor, of activations
  compile  the forward pass compiled; its compiling is left out
Speeds are those of the second half of each run, by its own metrics, over whole blocks of the shuffle buffer, each of
which is harvested at once; medians over rounds. Give a run several blocks (of 65,536 tokens): the first of the half may
have been made ahead in the half before. The last line is one JSON object.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from interp.activations.harvest import N_AHEAD
from interp.errors import InterpError
from saes.train_config import TrainConfig
from saes.training import train

ARMS: dict[str, dict[str, Any]] = {
    "plain": {"prefetch": 0},
    "ahead": {"prefetch": N_AHEAD},
    "compile": {"prefetch": 0, "compile": True},
}


def config_of(given: argparse.Namespace, arm: str, out: Path) -> TrainConfig:
    """The run of one arm."""
    values = {
        "model": given.model,
        "hook": given.hook,
        "tokens": given.tokens,
        "device": given.device,
        "dtype": given.dtype,
        "sae": {"architecture": "batch_topk", "d_sae": given.d_sae, "k": 32},
        "harvest": ARMS[arm],
        "recording": {"log_every": 1, "checkpoint_every": 1_000_000},
        "out": str(out),
    }
    return TrainConfig.parse(values)


def second_half(config: TrainConfig) -> slice:
    """Steps of the second half of the blocks."""
    each = config.shuffle.block_tokens // config.batch_size
    n_blocks = config.n_steps // each
    return slice(n_blocks // 2 * each, n_blocks * each)


def run(given: argparse.Namespace, arm: str) -> dict[str, float]:
    """Speed and parts of the time of the second half of a run."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(given, arm, Path(folder) / "run")
        done = train(config)
        rows = [json.loads(line) for line in done.metrics_path.read_text().splitlines()]
    half = rows[second_half(config)]
    parts = {name: sum(row[f"seconds_{name}"] for row in half) for name in ("harvest", "shuffle", "update")}
    text = sum(row.get("seconds_text", 0.0) for row in half)
    n_tokens = half[-1]["n_tokens"] - rows[second_half(config).start - 1]["n_tokens"]
    return {"tokens_per_s": n_tokens / sum(parts.values()), "text": text, **parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, a folder or a hub name")
    parser.add_argument("--hook", default="blocks.2.hook_resid_post")
    parser.add_argument("--tokens", default="600k", help="of each run")
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS), help="comma separated")
    given = parser.parse_args()
    names = given.arms.split(",")
    if second_half(config := config_of(given, names[0], Path("unused"))).start == 0:
        raise SystemExit(
            f"--tokens: got {given.tokens}; expected two blocks, {2 * config.shuffle.block_tokens:,}, or more"
        )
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for index in range(given.rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            found[name].append(run(given, name))
            print(f"round {index + 1} {name}: {found[name][-1]['tokens_per_s']:,.0f} tokens/s", file=sys.stderr)
    result: dict[str, Any] = {
        name: {key: round(statistics.median(one[key] for one in rounds), 3) for key in rounds[0]}
        for name, rounds in found.items()
    }
    if "plain" in found:
        for name in names:
            pairs = zip(found[name], found["plain"], strict=True)
            result[name]["ratio"] = round(statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs), 3)
    setting = {**vars(given), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"found": result, **setting, "python": platform.python_version()}))


if __name__ == "__main__":
    try:
        main()
    except InterpError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
