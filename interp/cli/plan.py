"""`interp plan`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.cli.plan_ranks import numbers_of_ranks, print_spread
from interp.cli.train import ALIASES
from interp.cli.units import duration as duration
from interp.cli.units import size as size
from saes.planning import Plan, plan
from saes.planning.accelerators import ACCELERATORS, accelerator
from saes.planning.machine import process_seconds
from saes.training import TrainConfig

_EXAMPLES = """\b
Examples:
  interp plan configs/quickstart.yaml                     time, memory, disk, operations of `interp train` with the same
  interp plan configs/quickstart.yaml --d-sae 65536 --tokens 1B
  interp plan configs/gpt2_small.yaml --no-calibrate --json
  interp plan configs/gemma_2_2b.yaml --ranks 8 --on h100 --tokens 1B
  interp plan configs/llama_70b.yaml --ranks 1,2,4,8,16,32 --on h100       what grows with what
"""
_KINDS = ", ".join(ACCELERATORS)


@click.command("plan", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--no-calibrate", is_flag=True, help="Count only: no trial steps; time from typical rates, not measured.")
@click.option("--ranks", metavar="N,N,…", help="Plan for so many ranks under torchrun, by count alone.")
@click.option("--on", "device_name", metavar="NAME", default="h100", show_default=True, help=f"Ranks' kind: {_KINDS}.")
@json_option
def command(
    config_file: Path | None,
    no_calibrate: bool,
    ranks: str | None,
    device_name: str,
    as_json: bool,
    **flags: Any,
) -> None:
    """Say what a training run will take before it starts: time, memory, disk, operations.

    Takes the same CONFIG and flags as `interp train`, and writes nothing that stays. A few seconds of the real work
    (forward passes, steps, one checkpoint) are run to measure this machine as busy as it is now.

    With --ranks nothing is run: it counts what each rank of a kind of machine takes, and what they tell each other.
    """
    config = TrainConfig.load(config_file, overrides_from(TrainConfig, flags))
    if ranks is not None:
        print_spread(config, numbers_of_ranks(ranks), accelerator(device_name), as_json=as_json)
        return
    # Until here the process did what a training process does before it loads the model: mostly importing.
    result = plan(config, calibrated=not no_calibrate, startup_seconds=process_seconds())
    print_facts(f"Plan of {config.out}", result.to_json(), as_json=as_json, shown=shown(config, result))


def shown(config: TrainConfig, result: Plan) -> dict[str, str]:
    """A plan as a person reads it."""
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in result.seconds_by.items())
    memory = "device memory" if result.device.startswith("cuda") else "memory"
    read = "{:,} read from disk" if config.activations is not None else "the model reads {:,}"
    return {
        "tokens": f"{result.n_tokens:,} in {result.n_steps:,} steps; {read.format(result.n_harvested_tokens)}",
        "parameters": f"{result.n_parameters:,}",
        "time": f"{duration(result.seconds)} ({parts})",
        memory: f"{size(result.memory_bytes)} at its peak, of {size(result.memory_available_bytes)} available"
        + ("" if result.fits_memory else ": DOES NOT FIT"),
        "disk": f"{size(result.disk_bytes)} kept, {size(result.disk_peak_bytes)} at worst, "
        f"of {size(result.disk_available_bytes)} free" + ("" if result.fits_disk else ": DOES NOT FIT"),
        "operations": ", ".join(f"{name} {flops:.3g}" for name, flops in result.flops_by.items()),
        "basis": _basis(result),
    }


def _basis(result: Plan) -> str:
    if result.measured:
        return "trial steps on this machine, as busy as it is now"
    why = "" if result.fits_memory else "not tried, since it does not fit; "
    return f"{why}counted operations at typical rates: the time is NOT measured and may be wrong by several times"
