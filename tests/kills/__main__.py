"""Kill commands at random and compare what they come to: `python -m tests.kills --kills 60 --seed 0`."""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

from tests.kills.cases import Case
from tests.kills.processes import prepare
from tests.kills.scene import Scene
from tests.kills.trials import IN_A_ROW, Moment, Trial, try_kills, try_moments

COMMANDS = ("train", "sweep", "collect", "features")
MISSES = 5
"""Trials in vain for each kill that is asked for, before something is wrong."""


def main() -> int:
    """Give 0 if every run that was killed came to the identical result."""
    asked, begun = _asked(), time.perf_counter()
    scratch = Path(tempfile.mkdtemp(prefix="kills-"))
    prepare()
    trials = _trials(asked, scratch)
    killed = [trial for trial in trials if trial.kills]
    differ = [trial for trial in trials if trial.differs]
    if not asked.json:
        _print_table(killed)
    result = {
        "kills": sum(len(trial.kills) for trial in killed),
        "identical": not differ,
        "seed": asked.seed,
        "seconds": round(time.perf_counter() - begun, 1),
        "kills_of": dict(Counter(trial.command for trial in killed for _ in trial.kills)),
        "phases": dict(Counter(kill.phase for trial in killed for kill in trial.kills)),
        "fresh": sum(trial.fresh for trial in killed),
        "trials": [asdict(trial) for trial in (trials if asked.json else differ)],
    }
    print(json.dumps(result))
    if differ:
        print(f"kept for a look: {scratch}", file=sys.stderr)
        return 1
    shutil.rmtree(scratch)
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="how many kills must hit")
    parser.add_argument("--seed", type=int, default=0, help="what moments are drawn with")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="which commands, comma separated")
    parser.add_argument("--only", help="only cases with this in their name, such as 'gated'")
    parser.add_argument("--in-a-row", type=int, default=max(IN_A_ROW), help="most kills of one run")
    parser.add_argument("--every-operation", action="store_true", help="before each file operation instead, in turn")
    parser.add_argument("--json", action="store_true", help="print only the JSON object, with all trials in it")
    asked = parser.parse_args()
    asked.commands = asked.commands.split(",")
    if unknown := set(asked.commands) - set(COMMANDS):
        parser.error(f"--commands: got {', '.join(sorted(unknown))}; expected some of {', '.join(COMMANDS)}")
    return asked


def _trials(asked: argparse.Namespace, scratch: Path) -> list[Trial]:
    """Commands take turns, and within a command its cases."""
    scene = Scene.make(scratch)
    chosen = [case for case in scene.cases if case.command in asked.commands and (asked.only or "") in case.name]
    if asked.every_operation:
        return _every_operation(scene, chosen)
    turns = cycle([cycle([case for case in chosen if case.command == name]) for name in asked.commands])
    trials: list[Trial] = []
    left = asked.kills
    while left > 0 and len(trials) < MISSES * asked.kills:
        number, reference = len(trials), scene.reference(next(next(turns)))
        draw = random.Random(f"{asked.seed}/{number}")
        trial = try_kills(reference, draw, name=str(number), at_most=min(left, asked.in_a_row))
        trials.append(trial)
        left -= len(trial.kills)
        _tell(trial, f"{asked.kills - left}/{asked.kills}")
    return trials


def _every_operation(scene: Scene, chosen: list[Case]) -> list[Trial]:
    """Each case killed before each of its file operations in turn."""
    trials = []
    for case in chosen:
        reference = scene.reference(case)
        for number in range(reference.operations):
            moment = Moment(by_operation=True, share=(number + 0.5) / reference.operations)
            trials.append(try_moments(reference, [moment], name=str(number)))
            _tell(trials[-1], f"{number + 1}/{reference.operations}")
    return trials


def _tell(trial: Trial, done: str) -> None:
    moments = ", ".join(f"{kill.share:.0%} {kill.phase}" for kill in trial.kills) or "over before the kill"
    said = "identical" if not trial.differs else f"DIFFERS: {trial.differs[0]}"
    print(f"kills: {done} {trial.case}: {moments}: {said}", file=sys.stderr, flush=True)


def _print_table(trials: list[Trial]) -> None:
    print(f"{'command':22} {'killed at':>9}  {'drawn by':13} {'phase':16} {'identical':9}  last written")
    for trial in trials:
        for number, kill in enumerate(trial.kills):
            name, same = (trial.case, "NO" if trial.differs else "yes") if number == 0 else ("  and again", "")
            at = f"{kill.share:.1%}"
            print(f"{name:22} {at:>9}  {kill.drawn:13} {kill.phase:16} {same:9}  {kill.last_written}")
        for line in trial.differs:
            print(f"    {line}")


if __name__ == "__main__":
    sys.exit(main())
