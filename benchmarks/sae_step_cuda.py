"""Tokens per second of the training step on a GPU, ours and the peers', beside the ceiling of the encoder's product.

usage: python benchmarks/sae_step_cuda.py [--sizes small,middle,large] [--arms topk,batch_topk,matryoshka,jumprelu]
           [--k 32,64] [--libraries ours,eager,saelens,sparsify] [--steps 10] [--profile] [--out FILE]

Needs torch with triton, transformers, tokenizers, pydantic, scipy, safetensors and jaxtyping; neither a network nor
plotly, datasets or transformer-lens. `eager` is our step without triton kernels. Peers run if they can be imported
(sae-lens: autocast, and with torch.compile; sparsify: its triton decoder, with Adam and with its own sign descent);
each takes its fastest setting, and the largest batch of those tried that fits into memory. Batches are made on the GPU
from a sparse linear model with log-normal norms. The ceiling is the bfloat16 product [b, d] x [d, f] at the same
sizes, measured in the same run.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent))

import torch
from step_task import Task, Trainee
from torch import Tensor

# d, f, batches to try: the first that fits is taken.
SIZES: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "tiny": (256, 2048, (1024,)),
    "small": (768, 24576, (16384, 8192, 4096)),
    "middle": (2304, 65536, (16384, 8192, 4096)),
    "large": (4096, 131072, (32768, 16384, 8192, 4096)),
}
BARE = {"rescale_acts_by_decoder_norm": False}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "ours": [{"encoder_dtype": "bfloat16"}],
    "eager": [{"encoder_dtype": "bfloat16"}],
    "saelens": [{"autocast": True}],
    # Its own sign descent was slower wherever both were timed.
    "sparsify": [{}],
}
N_BATCHES = 4


def gpu_tensors(task: Task) -> dict[str, Tensor]:
    """Batches and tied unit-norm initial weights, made on the GPU."""
    torch.manual_seed(task.seed)
    device = "cuda"
    weight = torch.nn.functional.normalize(torch.randn(task.f, task.d, device=device), dim=1)
    n_atoms = min(task.f // 2, 16384)
    atoms = torch.nn.functional.normalize(torch.randn(n_atoms, task.d, device=device), dim=1)
    frequency = 40 / n_atoms * torch.randn(n_atoms, device=device).exp() / 1.65
    tensors = {"encoder": weight.clone(), "decoder": weight}
    for index in range(N_BATCHES):
        fires = torch.rand(task.b, n_atoms, device=device) < frequency
        acts = fires * torch.rand(task.b, n_atoms, device=device) * 4
        norms = (0.3 * torch.randn(task.b, 1, device=device)).exp()
        noise = 0.1 * torch.randn(task.b, task.d, device=device)
        tensors[f"batch_{index}"] = (acts @ atoms) * norms + noise
        del fires, acts
    tensors["dead"] = torch.zeros(task.f, dtype=torch.bool, device=device)
    if task.penalty > 0:
        sample = tensors["batch_0"][:1024] @ weight.t()
        tensors["cut"] = sample.flatten().kthvalue(sample.numel() - round(task.l0 * 1024)).values.reshape(1)
    return tensors


def task_of(arm: str, d: int, f: int, b: int, k: int) -> Task:
    widths = tuple(f >> halvings for halvings in reversed(range(5)))
    task = Task(arm, d=d, f=f, k=k, b=b, widths=widths, l0=float(k))
    # What a penalised step costs depends on L0, which stays where it starts.
    return replace(task, lr=1e-6, penalty=0.8) if arm == "jumprelu" else task


@contextmanager
def built(library: str, task: Task, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Iterator[Trainee]:
    """A library's trainee; its memory is freed afterwards."""
    if library == "saelens":
        import step_saelens as module

        # Without rescaling by decoder norms SAELens saves several passes over the weights.
        settings = settings if task.architecture == "jumprelu" else {**BARE, **settings}
    elif library == "sparsify":
        import step_sparsify as module
    else:
        import step_ours as module
    from saes.ops.acceleration import acceleration

    with acceleration("eager" if library == "eager" else "auto"):
        yield module.build(task, tensors, settings)


def timed(step: Callable[[int], Any], n_steps: int) -> tuple[list[float], float]:
    """Seconds of each step after three that are not counted, and the peak of memory in GB."""
    for index in range(3):
        step(index % N_BATCHES)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for index in range(n_steps):
        begun = time.perf_counter()
        step(index % N_BATCHES)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return seconds, torch.cuda.max_memory_allocated() / 1e9


def ceilings(d: int, f: int, b: int) -> dict[str, float]:
    """Seconds of the encoder's product in bfloat16, and of what Adam must move at the speed of a large copy."""
    x, w = torch.randn(b, d, device="cuda").bfloat16(), torch.randn(f, d, device="cuda").bfloat16()
    rows = max(1, min(b, (1 << 31) // f))
    out = torch.empty(rows, f, device="cuda", dtype=torch.bfloat16)

    def product() -> None:
        for start in range(0, b, rows):
            part = x[start : start + rows]
            torch.mm(part, w.t(), out=out[: part.shape[0]])

    block = torch.empty(1 << 29, device="cuda")
    other = torch.empty_like(block)
    return {
        "matmul": _median(product),
        "copy_gb_per_second": 2 * block.numel() * 4 / 1e9 / _median(lambda: other.copy_(block)),
    }


def _median(call: Callable[[], Any], n: int = 7) -> float:
    seconds = []
    for index in range(n + 2):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if index >= 2:
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def measure(library: str, arm: str, size: str, k: int, options: argparse.Namespace) -> dict[str, Any] | None:
    """The fastest setting of a library at one arm and size; None if it has no trainer of the architecture."""
    d, f, batches = SIZES[size]
    best: dict[str, Any] | None = None
    for settings in SETTINGS[library]:
        for b in batches:
            if library == "saelens" and arm in ("batch_topk", "matryoshka") and b * f >= 1 << 31:
                # Its selection over the whole batch fails an assertion of torch's topk from here on.
                continue
            try:
                found = _measured(library, task_of(arm, d, f, b, k), settings, options)
            except torch.OutOfMemoryError:
                note(f"  {library} {settings} b={b}: out of memory")
                found = None
            except Exception as error:  # noqa: BLE001 (a peer that does not run says why, and the others go on)
                note(f"  {library} {settings} b={b}: {type(error).__name__}: {str(error)[:200]}")
                free()
                break
            free()
            if found is not None:
                note(f"  {library:8} {settings} b={b}: {found['tokens_per_second']:,.0f} tokens/s")
                if best is None or found["tokens_per_second"] > best["tokens_per_second"]:
                    best = found
                break
    return best


def _measured(library: str, task: Task, settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    tensors = gpu_tensors(task)
    with built(library, task, tensors, settings) as trainee:
        seconds, peak = timed(trainee.step, options.steps)
        terms = trainee.step(0)
        if options.profile and library == "ours":
            profile(trainee)
        counts = trainee.counts()
    middle = statistics.median(seconds)
    return {
        "library": library, "settings": settings, "b": task.b, "seconds": middle,
        "spread": [min(seconds), max(seconds)],
        "tokens_per_second": task.b / middle, "peak_gb": peak, "mse": terms.get("mse"), "counts": counts,
    }  # fmt: skip


def profile(trainee: Trainee) -> None:
    """The kernels that take longest in two steps."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    with recorded(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as record:
        for index in range(2):
            trainee.step(index)
        torch.cuda.synchronize()
    rows = sorted(record.key_averages(), key=lambda row: -row.self_device_time_total)[:16]
    for row in rows:
        note(f"    {row.self_device_time_total / 2e3:9.3f} ms {row.count / 2:6.1f}x  {row.key[:90]}")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="small,middle,large")
    parser.add_argument("--arms", default="topk,batch_topk,matryoshka,jumprelu")
    parser.add_argument("--k", default="32,64")
    parser.add_argument("--libraries", default="ours,saelens,sparsify")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compile", action="store_true", help="try SAELens compiled too, which takes a minute each")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this benchmark measures a GPU and found none; benchmarks/sae_step.py measures processors")
    if options.compile:
        SETTINGS["saelens"].append({"autocast": True, "compile": True})
    result: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": []}
    note(f"{result['gpu']}, torch {torch.__version__}")
    for size in options.sizes.split(","):
        d, f, batches = SIZES[size]
        floor = ceilings(d, f, batches[0])
        note(f"{size}: d={d} f={f}: product {1e3 * floor['matmul']:.2f} ms at b={batches[0]}, "
             f"copy {floor['copy_gb_per_second']:.0f} GB/s")  # fmt: skip
        free()
        for k in (int(part) for part in options.k.split(",")):
            for arm in options.arms.split(","):
                note(f" {arm} k={k}")
                found = [measure(library, arm, size, k, options) for library in options.libraries.split(",")]
                for row in found:
                    if row is not None:
                        share = floor["matmul"] * row["b"] / batches[0] / row["seconds"]
                        result["rows"].append({"size": size, "arm": arm, "k": k, "share_of_ceiling": share, **row})
                if options.out:
                    options.out.write_text(json.dumps(result))
        result.setdefault("floors", {})[size] = floor
    table(result)


def table(result: dict[str, Any]) -> None:
    """One line a measurement."""
    print(f"{'size':8}{'arm':12}{'k':>4}  {'library':10}{'b':>7}{'tokens/s':>12}{'ms':>9}{'ceiling':>9}{'GB':>7}  mse")
    for row in result["rows"]:
        print(
            f"{row['size']:8}{row['arm']:12}{row['k']:>4}  {row['library']:10}{row['b']:>7}"
            f"{row['tokens_per_second']:>12,.0f}{1e3 * row['seconds']:>9.2f}{row['share_of_ceiling']:>9.2f}"
            f"{row['peak_gb']:>7.1f}  {row['mse']:.4f}"
        )


if __name__ == "__main__":
    main()
