"""Tokens per second of the training step, ours and the peers', on identical data, weights and sizes.

usage: python benchmarks/sae_step.py [--quick] [--threads N] [--clock cpu] [--device cpu] [--arms topk,matryoshka,...]

Each library runs in its own process; they take turns, one idle while another works; figures are medians over all
timed steps. The last line of standard output is one JSON object, everything else goes to standard error.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from peers import peer_python
from step_task import Task, write_task

HERE = Path(__file__).parent
ARMS = ("topk", "batch_topk", "matryoshka", "topk_dead", "matryoshka_dead")
# Without rescaling by decoder norms SAELens saves several passes over the weights.
SAELENS_SETTINGS: dict[str, list[dict[str, Any]]] = {
    "topk": [
        {"rescale_acts_by_decoder_norm": False},
        {"rescale_acts_by_decoder_norm": False, "use_sparse_activations": True},
        {"rescale_acts_by_decoder_norm": False, "autocast": True},
        {"rescale_acts_by_decoder_norm": False, "compile": True},
    ],
    "batch_topk": [
        {"rescale_acts_by_decoder_norm": False},
        {"rescale_acts_by_decoder_norm": False, "autocast": True},
        {"rescale_acts_by_decoder_norm": False, "compile": True},
    ],
}
SAELENS_SETTINGS["matryoshka"] = SAELENS_SETTINGS["batch_topk"]


@dataclass(slots=True)
class Worker:
    """A library at work in its own process, with what it has answered so far."""

    process: subprocess.Popen[str]
    seconds: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)

    def ask(self, *, timed: bool = True, **request: Any) -> list[float]:
        """Let it work; its answer is added to what is known, timed or not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended early; its message is on standard error")
        answer = json.loads(line)
        if timed:
            self.seconds += answer["seconds"]
        self.terms += answer["terms"]
        self.counts = answer["counts"]
        return list(answer["seconds"])


@contextmanager
def worker(library: str, folder: Path, settings: Mapping[str, Any], options: argparse.Namespace) -> Iterator[Worker]:
    """Start a library on a task and end it afterwards."""
    python = sys.executable if library == "ours" else str(peer_python())
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": str(HERE.parent)}
    arguments = [library, str(folder), json.dumps(dict(settings)), str(options.threads), options.device, options.clock]
    process = subprocess.Popen(
        [python, str(HERE / "step_worker.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def fastest_setting(task: Task, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """SAELens's fastest setting: each tried for a few steps, the first of them not counted."""
    candidates = SAELENS_SETTINGS[task.architecture]
    tried: list[tuple[float, dict[str, Any]]] = []
    for settings in candidates[:2] if options.quick else candidates:
        try:
            with worker("saelens", folder, settings, options) as peer:
                peer.ask(steps=1, timed=False)
                seconds = min(peer.ask(steps=2))
        except RuntimeError as error:
            note(f"  saelens {settings}: does not run ({error})")
            continue
        note(f"  saelens {settings}: {task.b / seconds:.0f} tokens/s")
        tried.append((seconds, settings))
    return min(tried, key=lambda pair: pair[0])[1]


def measure(arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """One arm: all libraries in turn."""
    dead = arm.endswith("_dead")
    task = Task(architecture=arm.removesuffix("_dead"), dead_share=0.1 if dead else 0.0)
    rounds, steps = (3, 2) if options.quick else (8, 6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder, task)
        setting = fastest_setting(task, folder, options)
        with (
            worker("ours", folder, {}, options) as ours,
            worker("saelens", folder, setting, options) as saelens,
            worker("dictionary_learning", folder, {}, options) as other,
        ):
            everyone = [ours, saelens] if options.quick or dead else [ours, saelens, other]
            for one in everyone:
                one.ask(steps=2, timed=False)
            floors: list[float] = []
            for _ in range(rounds):
                for one in everyone:
                    one.ask(steps=steps)
                floors += ours.ask(floor=True, timed=False)
        speeds = {
            "ours": speed(task, ours.seconds),
            "saelens": speed(task, saelens.seconds),
            "floor": speed(task, floors),
        }
        result: dict[str, Any] = {f"{name}_tokens_per_s": round(value) for name, value in speeds.items()}
        if other in everyone:
            result["dictionary_learning_tokens_per_s"] = round(speed(task, other.seconds))
        result["ratio"] = round(speeds["ours"] / speeds["saelens"], 2)
        result["share_of_floor"] = round(speeds["ours"] / speeds["floor"], 3)
        result.update(ours.counts, saelens_setting=setting)
        result["dead_share_at_start"] = task.dead_share
        result["loss_agreement"] = agreement(folder, options)
    note(f"{arm}: {json.dumps(result)}")
    return result


def agreement(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Largest relative difference of the loss curves where both libraries compute the same function.

    SAELens leaves decoder norms free and scales activations by them: our `decoder_norm: free`.
    """
    with worker("ours", folder, {"decoder_norm": "free"}, options) as ours:
        ours.ask(steps=4 if options.quick else 24)
    with worker("ours", folder, {}, options) as unit:
        unit.ask(steps=4 if options.quick else 24)
    with worker("saelens", folder, {"rescale_acts_by_decoder_norm": True}, options) as peer:
        peer.ask(steps=4 if options.quick else 24)
    return {
        "loss": largest_gap(ours, peer, "loss"),
        "mse": largest_gap(ours, peer, "mse"),
        "mse_with_unit_decoder": largest_gap(unit, peer, "mse"),
    }


def largest_gap(ours: Worker, peer: Worker, term: str) -> float:
    """Largest relative difference of a term over all steps."""
    return max(abs(a[term] / b[term] - 1) for a, b in zip(ours.terms, peer.terms, strict=True))


def bfloat16_arm(options: argparse.Namespace) -> dict[str, Any]:
    """The bfloat16 encoder against float32: speed, and squared error after the same tokens."""
    task, steps = Task(architecture="matryoshka"), 4 if options.quick else 40
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder, task)
        found = {}
        for dtype in ("float32", "bfloat16"):
            with worker("ours", folder, {"encoder_dtype": dtype}, options) as ours:
                ours.ask(steps=steps)
                found[dtype] = ours
    last = {dtype: statistics.mean(t["mse"] for t in one.terms[-4:]) for dtype, one in found.items()}
    return {
        **{f"{dtype}_tokens_per_s": round(speed(task, one.seconds)) for dtype, one in found.items()},
        "relative_squared_error_after": steps * task.b,
        "relative_squared_error": round(last["bfloat16"] / last["float32"], 5),
        "instructions": bfloat16_instructions(options.device),
    }


def bfloat16_instructions(device: str) -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    if device != "cpu":
        return True
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(name in flags.read_text() for name in ("avx512_bf16", "amx_bf16"))


def speed(task: Task, seconds: list[float]) -> float:
    """Tokens per second at the median step."""
    return task.b / statistics.median(seconds)


def note(text: str) -> None:
    """A line for whoever watches."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the arms and print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, two peer settings")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each library")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, for busy machines"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated subset of the arms")
    parser.add_argument("--no-bfloat16", action="store_true", help="leave out the bfloat16 arm")
    options = parser.parse_args()
    results = {arm: measure(arm, options) for arm in options.arms.split(",")}
    if {"matryoshka", "batch_topk"} <= results.keys():
        pair = [results[arm]["ours_tokens_per_s"] for arm in ("matryoshka", "batch_topk")]
        results["matryoshka"]["share_of_batch_topk"] = round(pair[0] / pair[1], 3)
    if not options.no_bfloat16:
        results["bfloat16_encoder"] = bfloat16_arm(options)
    print(json.dumps({**results, "threads": options.threads, "device": options.device, "clock": options.clock}))


main()
