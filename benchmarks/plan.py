"""Plans against measurement: ten training configs drawn by seed, each planned, then run for real.

    python benchmarks/plan.py [--seed 0] [--n 10] [--seconds 15 40]

Models are the embedded one and, where INTERP_DATA is set, stories260K. Plans and runs are processes of their own; the
peak of memory is the operating system's. The last line is one JSON object.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saes.planning.rates import STORED_CPU
from saes.planning.run_plan import counted_seconds, counts_of, open_source
from saes.training import TrainConfig


@dataclass(frozen=True, slots=True)
class Compared:
    """One config: what was planned and what was measured. Units: seconds, bytes."""

    config: dict[str, Any]
    planned: dict[str, float]
    planned_parts: dict[str, float]
    measured: dict[str, float]

    def ratio(self, what: str) -> float:
        return self.planned[what] / self.measured[what]


def models() -> list[list[str]]:
    """Flags of the models to draw from."""
    found = [["--model", "embedded", "--dataset", "embedded"]]
    data = os.environ.get("INTERP_DATA")
    if data:
        text = Path(data) / "corpora" / "tinystories" / "tinystories.jsonl"
        found.append(["--model", str(Path(data) / "models" / "stories260K"), "--dataset", str(text)])
    return found


def drawn(generator: random.Random, seconds: tuple[float, float]) -> list[str]:
    """Flags of a random config whose counted time is a random one of the range."""
    layer, place = generator.randrange(4), generator.choice(["hook_resid_post", "hook_mlp_out", "attn.hook_z"])
    settings = {
        "hook": f"blocks.{layer}.{place}",
        "architecture": generator.choice(["topk", "batch_topk", "matryoshka", "standard"]),
        "d-sae": generator.choice([1024, 2048, 4096, 8192]),
        "k": generator.choice([8, 16, 32, 64]),
        "batch-size": generator.choice([1024, 2048, 4096]),
        "data.context-size": generator.choice([64, 128, 256]),
        "data.batch-tokens": generator.choice([2048, 8192]),
        "shuffle.block-tokens": generator.choice([16_384, 65_536, 131_072]),
        "recording.checkpoint-every": generator.choice([50, 500]),
    }
    named = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    flags = [*generator.choice(models()), *named]
    return [*flags, "--tokens", str(budget(flags, generator.uniform(*seconds)))]


def budget(flags: list[str], seconds: float) -> int:
    """Tokens that take about so long by counted operations at stored rates."""
    config = config_of([*flags, "--tokens", "1M"])
    counts = counts_of(config, open_source(config))
    low, high = config.batch_size, 1 << 25
    while high - low > 1_000:
        middle = (low + high) // 2
        tried = replace(counts, config=config.model_copy(update={"tokens": middle}))
        total = STORED_CPU.startup_seconds + sum(counted_seconds(tried, STORED_CPU).values())
        low, high = (middle, high) if total < seconds else (low, middle)
    return low


def config_of(flags: list[str]) -> TrainConfig:
    """The config that the flags mean on the command line."""
    names = {"architecture": "sae.architecture", "d-sae": "sae.d_sae", "k": "sae.k"}
    pairs = zip(flags[::2], flags[1::2], strict=True)
    given = {names.get(name[2:], name[2:].replace("-", "_")): value for name, value in pairs}
    return TrainConfig.load(None, {"device": "cpu", **given})


def measure(flags: list[str]) -> Compared:
    """Plan, then run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        flags = [*flags, "--device", "cpu", "--out", str(run)]
        told = subprocess.run(
            [sys.executable, "-m", "interp", "plan", *flags, "--json"], check=True, capture_output=True, text=True
        )
        planned = json.loads(told.stdout)
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "interp", "train", *flags], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        if status:
            raise SystemExit(f"training with {flags} failed with status {status}")
        disk = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    return Compared(
        config=dict(zip(flags[::2], flags[1::2], strict=True)),
        planned={"seconds": planned["seconds"], "memory": planned["memory_bytes"], "disk": planned["disk_bytes"]},
        planned_parts=planned["seconds_by"],
        measured={"seconds": seconds, "memory": usage.ru_maxrss * _UNIT, "disk": disk},
    )


_UNIT = 1 if sys.platform == "darwin" else 1024


def line(one: Compared) -> str:
    """A row of the table."""
    config = one.config
    name = " ".join(config[f"--{key}"] for key in ("architecture", "d-sae", "k", "batch-size", "hook"))
    cells = [
        f"{one.planned['seconds']:6.1f} s {one.measured['seconds']:6.1f} s {one.ratio('seconds'):5.2f}",
        f"{one.planned['memory'] / 1e6:6.0f} MB {one.measured['memory'] / 1e6:6.0f} MB {one.ratio('memory'):5.2f}",
        f"{one.planned['disk'] / 1e6:6.1f} MB {one.measured['disk'] / 1e6:6.1f} MB {one.ratio('disk'):5.2f}",
    ]
    return f"{Path(config['--model']).name:12} {name:55} | " + " | ".join(cells)


def main() -> None:
    """Draw, plan, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--seconds", type=float, nargs=2, default=(15.0, 40.0))
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    print("each: planned, measured, planned / measured; for time, peak memory, disk", file=sys.stderr)
    rows = []
    for flags in [drawn(generator, tuple(arguments.seconds)) for _ in range(arguments.n)]:
        rows.append(measure(flags))
        print(line(rows[-1]), file=sys.stderr, flush=True)
    summary = {}
    for what in ("seconds", "memory", "disk"):
        errors = [abs(row.ratio(what) - 1) for row in rows]
        summary[what] = {"within_30_percent": sum(e <= 0.3 for e in errors), "median_error": statistics.median(errors)}
        summary[what]["worst_error"] = max(errors)
    print(json.dumps({"seed": arguments.seed, "summary": summary, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
