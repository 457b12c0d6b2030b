"""Plans against measurement: ten training configs drawn by seed, each planned, then run for real.

    python benchmarks/plan.py [--seed 0] [--n 10] [--seconds 15 40]

Models are the embedded one and, where INTERP_DATA is set, stories260K. Plans and runs are processes of their own; the
peak of a run's memory is the operating system's. The system carries the peak of a process over to the program that it
starts, so that this one loads no library: its own peak, which is in the result, is the least that can be measured. The
table is Markdown on standard error; the last line of standard output is one JSON object.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_UNIT = 1 if sys.platform == "darwin" else 1024
_INTERP = (sys.executable, "-m", "interp")
# About what a run takes to begin. Measured, it would make a seed's configs depend on how busy the machine is.
_START_SECONDS = 5.0
_TRIED_TOKENS = 1_000_000


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
    parts = planned([*flags, "--tokens", str(_TRIED_TOKENS), "--no-calibrate"])["seconds_by"]
    tried: float = sum(part for name, part in parts.items() if name != "start and exit")
    batch = int(flags[flags.index("--batch-size") + 1])
    return max(batch, round(_TRIED_TOKENS * (seconds - _START_SECONDS) / tried))


def planned(flags: list[str]) -> dict[str, Any]:
    """What `interp plan` says."""
    command = [*_INTERP, "plan", *flags, "--device", "cpu", "--json"]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def measure(flags: list[str]) -> Compared:
    """Plan, then run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        told = planned([*flags, "--out", str(run)])
        begun = time.perf_counter()
        command = [*_INTERP, "train", *flags, "--device", "cpu", "--out", str(run)]
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        if status:
            told_by_run = Path(log.name).read_text()
            raise SystemExit(f"training with {flags} failed with status {status}:\n{told_by_run}")
        disk = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    return Compared(
        config=dict(zip(flags[::2], flags[1::2], strict=True)),
        planned={"seconds": told["seconds"], "memory": told["memory_bytes"], "disk": told["disk_bytes"]},
        planned_parts=told["seconds_by"],
        measured={"seconds": seconds, "memory": usage.ru_maxrss * _UNIT, "disk": disk},
    )


# Quantity -> its unit, what that is in seconds or bytes, decimals.
_SHOWN = {"seconds": ("s", 1, 1), "memory": ("MB", 10**6, 0), "disk": ("MB", 10**6, 1)}


def head() -> str:
    """The first two lines of the table."""
    names = ["model", "config", *(f"{what}: planned, measured, ratio" for what in ("time", "peak memory", "disk"))]
    return f"| {' | '.join(names)} |\n|---|---|--:|--:|--:|"


def line(one: Compared) -> str:
    """A row of the table."""
    config = one.config
    name = " ".join(config[f"--{key}"] for key in ("architecture", "d-sae", "k", "batch-size", "hook", "tokens"))
    cells = [
        f"{one.planned[what] / size:,.{digits}f} {unit}, {one.measured[what] / size:,.{digits}f} {unit}, "
        f"{one.ratio(what):.2f}"
        for what, (unit, size, digits) in _SHOWN.items()
    ]
    return f"| {' | '.join((Path(config['--model']).name, name, *cells))} |"


def summary_of(rows: list[Compared]) -> dict[str, Any]:
    """How far the plans were off."""
    errors = {what: [abs(row.ratio(what) - 1) for row in rows] for what in _SHOWN}
    return {
        what: {
            "within_30_percent": sum(error <= 0.3 for error in found),
            "median_error": statistics.median(found),
            "worst_error": max(found),
        }
        for what, found in errors.items()
    }


def main() -> None:
    """Draw, plan, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--seconds", type=float, nargs=2, default=(15.0, 40.0))
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    rows: list[Compared] = []
    configs = [drawn(generator, tuple(arguments.seconds)) for _ in range(arguments.n)]
    print(head(), file=sys.stderr, flush=True)
    for flags in configs:
        rows.append(measure(flags))
        print(line(rows[-1]), file=sys.stderr, flush=True)
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    result = {"seed": arguments.seed, "summary": summary_of(rows), "own_peak_bytes": floor}
    print(json.dumps({**result, "rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
