"""Peak memory of `interp train` as the number of tokens grows: it must not.

    python benchmarks/memory.py [--model M --dataset D --hook H] [--tokens 1M 4M]

Each run is a process of its own; the peak is the operating system's. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def peak_megabytes(arguments: argparse.Namespace, tokens: str) -> float:
    """Peak resident memory of one training run, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "interp", "train", "--model", arguments.model, "--dataset", arguments.dataset]
        command += ["--hook", arguments.hook, "--tokens", tokens, "--d-sae", "1024", "--k", "16"]
        command += ["--out", str(Path(folder) / "run")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"training on {tokens} tokens failed with status {status}")
        return usage.ru_maxrss / 1024 if sys.platform != "darwin" else usage.ru_maxrss / 1024**2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dataset", default="embedded")
    parser.add_argument("--hook", default="blocks.2.hook_resid_post")
    parser.add_argument("--tokens", nargs="+", default=["1M", "4M"])
    arguments = parser.parse_args()
    peaks = {tokens: round(peak_megabytes(arguments, tokens), 1) for tokens in arguments.tokens}
    for tokens, peak in peaks.items():
        print(f"{tokens:>6} tokens: peak {peak:,.0f} MB", file=sys.stderr)
    print(json.dumps({"peak_mb": peaks}))


if __name__ == "__main__":
    main()
