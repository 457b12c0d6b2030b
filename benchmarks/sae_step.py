"""Tokens per second of the training step, ours and the peers', on identical data, weights and sizes.

usage: python benchmarks/sae_step.py [--quick] [--threads N] [--clock cpu] [--device cpu] [--arms topk,gated,...]

Each library runs in its own process; they take turns, one idle while another works; figures are medians over all
timed steps. The last line of standard output is one JSON object, everything else goes to standard error.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from step_agreement import agreement
from step_arms import ARMS, PEERS, PENALISED
from step_process import Worker, worker
from step_task import Task, write_task

LIBRARIES = ("saelens", "dictionary_learning")


def fastest_setting(library: str, task: Task, folder: Path, options: argparse.Namespace) -> dict[str, Any] | None:
    """A peer's fastest setting: each tried for a few steps, the first of them not counted. None: it has no trainer."""
    candidates = PEERS[task.architecture].settings(library)
    if options.quick or len(candidates) < 2:
        return candidates[0] if candidates else None
    tried: list[tuple[float, dict[str, Any]]] = []
    for settings in candidates:
        try:
            with worker(library, folder, settings, options) as peer:
                peer.ask(steps=1, timed=False)
                seconds = min(peer.ask(steps=2))
        except RuntimeError as error:
            note(f"  {library} {settings}: does not run ({error})")
            continue
        note(f"  {library} {settings}: {task.b / seconds:.0f} tokens/s")
        tried.append((seconds, settings))
    return min(tried, key=lambda pair: pair[0])[1]


def take_turns(everyone: list[Worker], options: argparse.Namespace) -> list[float]:
    """All libraries step in turn; gives the seconds of the floor, measured in between."""
    rounds, steps = (3, 2) if options.quick else (options.rounds, 6)
    for one in everyone:
        one.ask(l0=True, timed=False)
        one.ask(steps=2, timed=False)
    floors: list[float] = []
    for _ in range(rounds):
        for one in everyone:
            one.ask(steps=steps)
        floors += everyone[0].ask(floor=True, timed=False)
    for one in everyone:
        one.ask(l0=True, timed=False)
    return floors


def measure(arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """One arm: all libraries in turn."""
    task = ARMS[arm]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_task(folder, task)
        settings = {library: fastest_setting(library, task, folder, options) for library in LIBRARIES}
        if task.dead_share > 0:
            del settings["dictionary_learning"]
        chosen: dict[str, dict[str, Any]] = {"ours": {}}
        chosen |= {library: setting for library, setting in settings.items() if setting is not None}
        running = {
            library: stack.enter_context(worker(library, folder, setting, options))
            for library, setting in chosen.items()
        }
        floors = take_turns(list(running.values()), options)
        result = figures(task, running, floors)
        result |= {f"{library}_tokens_per_s": "none" for library, setting in settings.items() if setting is None}
        result |= {f"{library}_setting": chosen[library] for library in LIBRARIES if library in chosen}
        stack.close()
        result["loss_agreement"] = agreement(task, folder, options)
    note(f"{arm}: {json.dumps(result)}")
    return result


def figures(task: Task, running: dict[str, Worker], floors: list[float]) -> dict[str, Any]:
    """Speeds and counts of an arm."""
    speeds = {library: speed(task, one.seconds) for library, one in running.items()}
    floor = speed(task, floors)
    result: dict[str, Any] = {f"{library}_tokens_per_s": round(value) for library, value in speeds.items()}
    result["floor_tokens_per_s"] = round(floor)
    if "saelens" in speeds:
        result["ratio"] = round(speeds["ours"] / speeds["saelens"], 2)
    result["share_of_floor"] = round(speeds["ours"] / floor, 3)
    result |= running["ours"].counts
    if task.architecture in PENALISED:
        result |= {"learning_rate": task.lr, "penalty_weight": task.penalty}
    result["l0_start_end"] = {library: [round(value, 1) for value in one.l0] for library, one in running.items()}
    result["dead_share_at_start"] = task.dead_share
    return result


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
    parser.add_argument("--quick", action="store_true", help="few steps, the first setting of each peer")
    parser.add_argument("--rounds", type=int, default=8, help="turns of six steps that each library takes")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each library")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, for busy machines"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated subset of the arms")
    parser.add_argument("--no-bfloat16", action="store_true", help="leave out the bfloat16 arm")
    options = parser.parse_args()
    arms = options.arms.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        parser.error(f"--arms: got {', '.join(unknown)}; choose from {', '.join(ARMS)}")
    results = {arm: measure(arm, options) for arm in arms}
    if {"matryoshka", "batch_topk"} <= results.keys():
        pair = [results[arm]["ours_tokens_per_s"] for arm in ("matryoshka", "batch_topk")]
        results["matryoshka"]["share_of_batch_topk"] = round(pair[0] / pair[1], 3)
    if not options.no_bfloat16:
        results["bfloat16_encoder"] = bfloat16_arm(options)
    print(json.dumps({**results, "threads": options.threads, "device": options.device, "clock": options.clock}))


main()
