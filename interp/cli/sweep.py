"""`interp sweep`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, flag_of, overrides_from
from interp.cli.output import json_option, print_facts
from interp.cli.train import ALIASES
from interp.config import read_yaml
from interp.errors import ConfigError, NonFiniteError
from saes.sweep import sweep
from saes.sweep_config import SweepConfig
from saes.sweep_folder import SweepRecord
from saes.training import TrainConfig

_EXAMPLES = """\b
Examples:
  interp sweep configs/sweep_quickstart.yaml                      eight SAEs of the embedded model in one pass
  interp sweep configs/sweep_quickstart.yaml --tokens 200k --out runs/short
  interp sweep configs/sweep_quickstart.yaml --resume             go on after an interruption, bit for bit
"""


@click.command("sweep", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--resume", is_flag=True, help="Go on with the sweep in --out if there is one; else start it.")
@click.option("--dry-run", is_flag=True, help="Say who the members are, and what memory and time they take; no more.")
@click.option(
    "--report", "report", type=click.Path(path_type=Path), help="Only measure and draw the sweep in this folder."
)
@json_option
def command(
    config_file: Path | None,
    resume: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train many SAEs side by side from one stream of activations, then measure and compare them.

    CONFIG has `base` (settings of `interp train`), `grid` (dotted setting: list of values; every combination is a
    member), `also` (further members) and `out`. Flags change the base. The language model runs once for all members,
    and each is byte for byte the SAE that `interp train` makes of runs/MEMBER/config.yaml. A member whose loss is no
    longer a number is set aside and named at the end, with exit code 2; the others go on.
    """
    config = _config(config_file, overrides_from(TrainConfig, flags))
    folder = sweep(config, resume=resume)
    record = folder.record()
    print_facts(f"Sweep {folder.path}", {"sweep": str(folder.path), **record.cost()}, as_json=as_json)
    _say_who_failed(record)


def _config(path: Path | None, overrides: dict[str, Any]) -> SweepConfig:
    """Raises: ConfigError if a flag is about what the grid says."""
    values = read_yaml(path) if path is not None else {}
    grid = values.get("grid")
    for key in grid if isinstance(grid, dict) else ():
        if key in overrides:
            raise ConfigError(f"{flag_of(key)}: the grid says what {key} is; change it in {path}")
    out = {"out": overrides.pop("out")} if "out" in overrides else {}
    return SweepConfig.load(path, {**{f"base.{key}": value for key, value in overrides.items()}, **out})


def _say_who_failed(record: SweepRecord) -> None:
    """Raises: NonFiniteError naming the members that were set aside."""
    failed = {name: member.message for name, member in record.members.items() if member.status == "failed"}
    if failed:
        told = "; ".join(f"{name}: {message}" for name, message in failed.items())
        raise NonFiniteError(f"{len(failed)} of {len(record.members)} members failed, the others are whole: {told}")
