"""`interp plan`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.cli.train import ALIASES
from saes.planning import Plan, plan
from saes.planning.machine import process_seconds
from saes.training import TrainConfig

_EXAMPLES = """\b
Examples:
  interp plan configs/quickstart.yaml                     time, memory, disk, operations of `interp train` with the same
  interp plan configs/quickstart.yaml --d-sae 65536 --tokens 1B
  interp plan configs/gpt2_small.yaml --no-calibrate --json
"""


@click.command("plan", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--no-calibrate", is_flag=True, help="Count only: no trial steps; time from typical rates, not measured.")
@json_option
def command(config_file: Path | None, no_calibrate: bool, as_json: bool, **flags: Any) -> None:
    """Say what a training run will take before it starts: time, memory, disk, operations.

    Takes the same CONFIG and flags as `interp train`, and writes nothing that stays. A few seconds of the real work
    (forward passes, steps, one checkpoint) are run to measure this machine as busy as it is now.
    """
    config = TrainConfig.load(config_file, overrides_from(TrainConfig, flags))
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


def duration(seconds: int | float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def size(n_bytes: int | float) -> str:
    """Bytes as a person says them."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} GB" if n_bytes < 1000 else f"{n_bytes / 1000:,.1f} TB"
