"""Peak memory of `interp train` beside what `interp plan` says of it, as the number of tokens grows: it must not.

    python benchmarks/memory.py [--model M --dataset D --hook H] [--tokens 1M 4M] [--d-sae 1024 8192]

Each run is a process of its own; the peak is the operating system's. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

INTERP = [sys.executable, "-m", "interp"]


def peak_megabytes(flags: list[str]) -> float:
    """Peak resident memory of one training run, in MB (of 1,000,000 bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*INTERP, "train", *flags, "--out", str(Path(folder) / "run")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(flags)}: training failed with status {status}")
        return usage.ru_maxrss * (1024 if sys.platform != "darwin" else 1) / 1e6


def planned_megabytes(flags: list[str]) -> float:
    """What the plan says of the same run, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*INTERP, "plan", *flags, "--out", str(Path(folder) / "run"), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(json.loads(done.stdout)["memory_bytes"]) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dataset", default="embedded")
    parser.add_argument("--hook", default="blocks.2.hook_resid_post")
    parser.add_argument("--architecture", default="topk")
    parser.add_argument("--tokens", nargs="+", default=["1M", "4M"])
    parser.add_argument("--d-sae", nargs="+", default=["1024"])
    parser.add_argument("--prefetch", default="0", help="batches that threads make ahead")
    given = parser.parse_args()
    found = []
    for d_sae in given.d_sae:
        for tokens in given.tokens:
            flags = ["--model", given.model, "--dataset", given.dataset, "--hook", given.hook, "--tokens", tokens]
            flags += [
                "--architecture",
                given.architecture,
                "--d-sae",
                d_sae,
                "--k",
                "16",
                "--harvest.prefetch",
                given.prefetch,
            ]
            planned, peak = planned_megabytes(flags), peak_megabytes(flags)
            found.append(
                {"d_sae": d_sae, "tokens": tokens, "peak_mb": round(peak), "of_plan": round(peak / planned, 3)}
            )
            print(
                f"{d_sae} features, {tokens} tokens: peak {peak:,.0f} MB, {peak / planned:.3f} of the plan",
                file=sys.stderr,
            )
    print(json.dumps({"runs": found}))


if __name__ == "__main__":
    main()
