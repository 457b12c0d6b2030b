"""One library in a process of its own: waits for a line, trains that many steps, answers with seconds and losses.

usage: step_worker.py LIBRARY TASK_FOLDER SETTINGS_JSON N_THREADS DEVICE CLOCK
"""

import importlib
import json
import sys
import time
from pathlib import Path

import torch
from step_task import read_task


def main() -> None:
    """Serve until standard input ends."""
    library, folder, settings, threads, device, clock_name = sys.argv[1:7]
    clock = time.process_time if clock_name == "cpu" else time.perf_counter
    torch.set_num_threads(int(threads))
    task, tensors = read_task(Path(folder))
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    module = importlib.import_module(f"step_{library}")
    trainee = module.build(task, tensors, json.loads(settings))
    done = 0
    # Libraries print as they please; answers alone go to the real standard output.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, object] = {"seconds": [], "terms": []}
        if request.get("floor"):
            answer["seconds"] = module.floor_seconds(task, tensors, clock)
        for _ in range(request.get("steps", 0)):
            begun = clock()
            terms = trainee.step(done % task.n_batches)
            answer["seconds"].append(clock() - begun)
            answer["terms"].append(terms)
            done += 1
        if request.get("l0"):
            answer["l0"] = trainee.l0(0)
        if request.get("moments"):
            answer["moments"] = trainee.moments()
        print(json.dumps({**answer, "counts": trainee.counts()}), file=answers, flush=True)


main()
