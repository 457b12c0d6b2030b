"""An environment of its own for each library that we measure ourselves against."""

import subprocess
import sys
import venv
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / ".venv-saelens"
PACKAGES = ("sae-lens==6.54.0", "dictionary-learning")


def peer_python() -> Path:
    """The interpreter of the peers' environment, which is created on first use (minutes, network)."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / "complete").exists():
        print(f"creating {FOLDER} with {', '.join(PACKAGES)}", file=sys.stderr)
        venv.create(FOLDER, with_pip=True, clear=True)
        # The same torch on both sides; sae-lens pins transformer-lens < 4, so our own constraints cannot hold here.
        constraint = FOLDER / "constraint.txt"
        constraint.write_text(f"torch=={torch.__version__.split('+')[0]}\n")
        for package in PACKAGES:
            command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(constraint), package]
            subprocess.run(command, check=True, stdout=sys.stderr)
        # Comes along with dictionary-learning, built for another torch, and then nothing of transformers imports.
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "-y", "torchvision"], check=True)
        (FOLDER / "complete").touch()
    return python
