"""An environment of its own for each library that we measure ourselves against."""

import subprocess
import sys
import venv
from pathlib import Path
from typing import Literal

import torch

Peer = Literal["saelens", "sparsify", "saedashboard"]
PACKAGES: dict[Peer, tuple[str, ...]] = {
    "saelens": ("sae-lens==6.54.0", "dictionary-learning"),
    "sparsify": ("eai-sparsify==1.3.3",),
    # It holds numpy below 2, which pyarrow of today refuses.
    "saedashboard": ("sae-dashboard==0.8.0", "pyarrow<20"),
}


def peer_python(peer: Peer = "saelens") -> Path:
    """The interpreter of a peer's environment, which is created on first use (minutes, network)."""
    folder = Path(__file__).parent / f".venv-{peer}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"creating {folder} with {', '.join(PACKAGES[peer])}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        # The same torch on both sides; sae-lens pins transformer-lens < 4, so our own constraints cannot hold here.
        constraint = folder / "constraint.txt"
        constraint.write_text(f"torch=={torch.__version__.split('+')[0]}\n")
        for package in PACKAGES[peer]:
            command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(constraint), package]
            subprocess.run(command, check=True, stdout=sys.stderr)
        # They come along, built for another torch, and then nothing of transformers imports.
        for package in ("torchvision", "torchaudio"):
            subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "-y", package], check=True)
        (folder / "complete").touch()
    return python
