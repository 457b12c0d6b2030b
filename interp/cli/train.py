"""`interp train`."""

import json
from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.distributed import opened_ranks
from interp.runs import RunFolder
from saes.sharded_training import train_on_ranks
from saes.training import TrainConfig, train

_EXAMPLES = """\b
Examples:
  interp train configs/quickstart.yaml                            the embedded model, about three minutes
  interp train configs/quickstart.yaml --sae.k 64 --out runs/k64  any setting by its dotted name
  interp train --model gpt2 --dataset roneneldan/TinyStories --hook blocks.6.hook_resid_post --tokens 50M
  interp train configs/quickstart.yaml --resume                   go on after an interruption, bit for bit
  torchrun --nproc-per-node 4 -m interp train configs/quickstart.yaml            on four processes, or GPUs
"""

ALIASES = {"sae.k": "--k", "sae.d_sae": "--d-sae", "sae.architecture": "--architecture", "schedule.lr": "--lr"}


@click.command("train", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--resume", is_flag=True, help="Go on with the run in --out if there is one; else start it.")
@click.option("--resume-from", metavar="step_N", help="Go on from this checkpoint instead of the latest.")
@json_option
def command(config_file: Path | None, resume: bool, resume_from: str | None, as_json: bool, **flags: Any) -> None:
    """Train a sparse autoencoder on a model's activations.

    Settings come from the YAML file CONFIG, then from flags. Harvesting runs on the fly (or from disk, --activations);
    the run folder gets metrics, checkpoints and, at the end, the SAE in a format that SAELens reads too.

    Under torchrun the processes harvest in turns and each holds a range of the features; the folder is that of one
    process, and any number of processes can go on with it.
    """
    config = TrainConfig.load(config_file, overrides_from(TrainConfig, flags))
    goes_on = resume or resume_from is not None
    with opened_ranks() as ranks:
        finished = resume and resume_from is None and _is_finished(RunFolder(config.out))
        if ranks.n > 1:
            run = train_on_ranks(config, ranks, resume=goes_on, resume_from=resume_from)
        else:
            run = train(config, resume=goes_on, resume_from=resume_from)
        if ranks.first:
            title = f"{run.name} was finished already: nothing was trained" if finished else f"Trained {run.name}"
            print_facts(title, summary(run), as_json=as_json)


def _is_finished(run: RunFolder) -> bool:
    return run.started and run.manifest().status == "finished"


def summary(run: RunFolder) -> dict[str, Any]:
    """Where the run is and its last line of metrics."""
    last = last_metrics(run)
    shown: dict[str, Any] = {
        key: last[key] for key in ("step", "n_tokens", "loss", "explained_variance", "l0", "dead") if key in last
    }
    return {"run": str(run.path), "sae": str(run.sae), **shown}


def last_metrics(run: RunFolder) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; nothing if there is none."""
    if not run.metrics_path.exists():
        return {}
    for line in reversed(run.metrics_path.read_text(errors="replace").splitlines()):
        try:
            row: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        return row
    return {}
