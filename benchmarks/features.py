"""Time and peak memory of describing every feature: our one pass beside SAEDashboard's pass per 128 features.

usage: python benchmarks/features.py [--features 1024 4096 16384] [--rows N] [--threads N] [--clock cpu]

Both read the same rows of tokens through the same model and the same JumpReLU SAE (random directions, a threshold that
lets --l0 features fire per token), each in a process of its own, one after the other; time runs from the loaded model
to the finished result, the peak is the operating system's. SAEDashboard runs as its documentation says and, as a second
arm, with its cache of activations on disk. Its time is proportional to the number of feature batches: where there are
more than --peer-batches, that many are measured and the rest is multiplied, which `peer_measured_batches` tells. The
peer's activations and codes are checked against ours before the clock starts. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from interp.activations.harvest import harvest_batch
from interp.datasets import DataConfig, TokenBatch, open_stream
from interp.models import Model, load_model
from interp.storage import write_json, write_tensors
from saes import SAE, SAEConfig, create_sae
from saes.io import save_sae

sys.path.insert(0, str(Path(__file__).parent))

from peers import peer_python

HERE = Path(__file__).parent
FEATURES_AT_A_TIME = 128


def row_batch(token_ids: torch.Tensor) -> TokenBatch:
    """Full rows, every token kept, each row a document."""
    document = torch.arange(token_ids.shape[0])[:, None].expand_as(token_ids).contiguous()
    positions = torch.arange(token_ids.shape[1]).expand_as(token_ids).contiguous()
    every = torch.ones_like(token_ids, dtype=torch.bool)
    return TokenBatch(token_ids, every, every.long(), positions, document)


def full_rows(model: Model, dataset: str, n_rows: int, width: int) -> torch.Tensor:
    """Rows of the data set without padding."""
    config = DataConfig(context_size=width, rows="packed", batch_tokens=16 * width)
    found: list[torch.Tensor] = []
    for batch in open_stream(dataset, model, config, split="all").iter_pass():
        whole = batch.token_ids[(batch.document >= 0).all(1)]
        found += [whole] if whole.shape[1] == width else []
        if sum(rows.shape[0] for rows in found) >= n_rows:
            break
    return torch.cat(found)[:n_rows]


def random_sae(d_sae: int, x: torch.Tensor, hook: str, l0: float) -> SAE:
    """Unit directions about the mean activation; the threshold lets `l0` features fire per token on `x`."""
    config = SAEConfig(architecture="matryoshka", d_sae=d_sae, k=round(l0))
    sae = create_sae(config, x.shape[1], hooks_in=(hook,))
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(d_sae, x.shape[1], generator=generator), dim=1)
    with torch.no_grad():
        sae.W_enc.copy_(directions)
        sae.W_dec.copy_(directions)
        sae.b_dec.copy_(x.mean(0))
        strength = ((x - x.mean(0)) @ directions.T).flatten()
        sae.threshold.fill_(float(strength.kthvalue(strength.numel() - round(l0 * x.shape[0])).values))
    return sae


def prepare(folder: Path, given: argparse.Namespace) -> None:
    """Model, rows and SAEs in `folder`, with activations and codes that the peer must reproduce."""
    model = load_model(given.model, device="cpu")
    model.hf.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    rows = full_rows(model, given.dataset, given.rows, given.row_tokens)
    acts = harvest_batch(model, row_batch(rows[:8]), (given.hook,)).acts[given.hook]
    write_tensors(folder / "rows.safetensors", {"token_ids": rows, "acts": acts})
    for d_sae in given.features:
        sae = random_sae(d_sae, acts[:2000], given.hook, given.l0)
        save_sae(folder / f"sae_{d_sae}", sae, {"model": model.facts})
        with torch.no_grad():
            code = sae.encode(acts)
        codes = {"rows": code.rows(), "features": code.features, "values": code.values}
        write_tensors(folder / f"codes_{d_sae}.safetensors", codes)
    write_json(folder / "task.json", {"hook": given.hook, "features_at_a_time": FEATURES_AT_A_TIME})


def measured(command: list[str], threads: int) -> dict[str, Any]:
    """What a worker printed last, with the peak of its memory."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed with status {status}")
        out.seek(0)
        told: dict[str, Any] = json.loads(out.read().strip().splitlines()[-1])
    peak = usage.ru_maxrss / 1024 if sys.platform != "darwin" else usage.ru_maxrss / 1024**2
    return told | {"peak_mb": round(peak)}


def compare(folder: Path, d_sae: int, given: argparse.Namespace) -> dict[str, Any]:
    """Both libraries on one SAE."""
    ours = measured(
        [sys.executable, str(HERE / "features_ours.py"), str(folder), str(d_sae), given.clock], given.threads
    )
    result: dict[str, Any] = {"d_sae": d_sae, "ours": ours}
    n_batches = -(-d_sae // FEATURES_AT_A_TIME)
    for arm in () if given.no_peer else ("saedashboard", "saedashboard_cached"):
        command = [str(peer_python("saedashboard")), "-W", "ignore", str(HERE / "features_saedashboard.py")]
        command += [str(folder), str(d_sae), given.clock, str(min(n_batches, given.peer_batches)), arm]
        peer = measured(command, given.threads)
        # The first batch also fills the cache, where there is one: only the others repeat.
        rest = (peer["seconds"] - peer["first_seconds"]) / max(peer["batches"] - 1, 1)
        seconds = peer["first_seconds"] + rest * (n_batches - 1) if peer["batches"] < n_batches else peer["seconds"]
        result[arm] = {
            "seconds": round(seconds, 1), "peak_mb": peer["peak_mb"], "peer_measured_batches": peer["batches"],
            "of_batches": n_batches, "ratio": round(seconds / ours["seconds"], 2),
        }  # fmt: skip
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dataset", default="embedded")
    parser.add_argument("--hook", default="blocks.2.hook_resid_post")
    parser.add_argument("--features", nargs="+", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--rows", type=int, default=1024, help="rows of text")
    parser.add_argument("--row-tokens", type=int, default=128, help="tokens per row (SAEDashboard's default)")
    parser.add_argument("--l0", type=float, default=32, help="features that fire per token")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that is busy")
    parser.add_argument("--peer-batches", type=int, default=8, help="feature batches of the peer to measure")
    parser.add_argument("--no-peer", action="store_true", help="measure ours alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), given)
        results = []
        for d_sae in given.features:
            results.append(compare(Path(name), d_sae, given))
            print(json.dumps(results[-1]), file=sys.stderr)
    setting = {
        "n_tokens": given.rows * given.row_tokens,
        "threads": given.threads,
        "clock": given.clock,
        "l0": given.l0,
    }
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({**setting, "versions": versions, "results": results}))


if __name__ == "__main__":
    main()
