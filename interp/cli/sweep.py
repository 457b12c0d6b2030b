"""`interp sweep`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dashboards.sweep_page import write_sweep_report
from interp.cli.evaluate import COUNT
from interp.cli.options import ConfigCommand, config_options, flag_of, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.cli.plan import duration, size
from interp.cli.train import ALIASES
from interp.config import read_yaml
from interp.distributed import opened_ranks
from interp.errors import ConfigError, NonFiniteError
from interp.launcher import n_ranks
from saes.sweep import sweep
from saes.sweep_config import SweepConfig
from saes.sweep_folder import SweepFolder, SweepRecord
from saes.sweep_memory import SweepPlan, plan_sweep
from saes.sweep_results import MemberScore, SweepResults, measure_sweep
from saes.training import TrainConfig

_EXAMPLES = """\b
Examples:
  interp sweep configs/sweep_quickstart.yaml                 eight SAEs of the embedded model in one pass
  interp sweep configs/sweep_quickstart.yaml --dry-run       who its members are, what memory and time they take
  interp sweep configs/sweep_quickstart.yaml --tokens 200k --out runs/short
  interp sweep configs/sweep_quickstart.yaml --resume        go on after an interruption, bit for bit
  torchrun --nproc-per-node 4 -m interp sweep configs/sweep_quickstart.yaml
  interp sweep --report runs/sweep --eval-tokens 100k        measure and draw again what is trained
"""


@click.command("sweep", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--resume", is_flag=True, help="Go on with the sweep in --out if there is one; else start it.")
@click.option("--dry-run", is_flag=True, help="Say who the members are, what memory and time they take, and stop.")
@click.option("--report", "report", metavar="OUT", type=click.Path(path_type=Path), help="Only measure and draw OUT.")
@click.option("--eval-tokens", default="20k", show_default=True, type=COUNT, help="Held-out tokens to measure on.")
@json_option
def command(
    config_file: Path | None,
    resume: bool,
    dry_run: bool,
    report: Path | None,
    eval_tokens: int,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train many SAEs side by side from one stream of activations, then measure and compare them.

    CONFIG has `base` (settings as for `interp train`), `grid` (dotted setting: list of values; every combination is a
    member), `also` (further members), `seeds` (each member with every one of them) and `out`. Flags change the base.
    The language model runs once for all members, and each is byte for byte the SAE that `interp train` makes of
    OUT/runs/MEMBER/config.yaml. A member whose loss is no longer a number is set aside and named at the end, with exit
    code 2; the others go on. Under torchrun the processes run the model in turns and share the members, whose files
    stay the same.
    """
    overrides = overrides_from(TrainConfig, flags)
    if n_ranks() > 1 and (report is not None or dry_run):
        raise ConfigError("--report and --dry-run run in one process; start them without torchrun")
    if report is not None:
        if config_file is not None or overrides or resume or dry_run:
            raise ConfigError("--report: takes the folder of a sweep and --eval-tokens alone; leave out the rest")
        folder = SweepFolder.open(report)
    else:
        config = _config(config_file, overrides)
        if dry_run:
            _print_plan(config, plan_sweep(config), as_json=as_json)
            return
        with opened_ranks() as ranks:
            folder = sweep(config, resume=resume, on_start=_say_size, ranks=ranks)
        if not ranks.first:
            return
    results = measure_sweep(folder, n_tokens=eval_tokens)
    page = write_sweep_report(folder.path)
    _print_results(folder, results, page, as_json=as_json)
    _say_who_failed(folder.record())


def _config(path: Path | None, overrides: dict[str, Any]) -> SweepConfig:
    """Raises: ConfigError if no config is given, or a flag is about what the grid says."""
    if path is None:
        raise ConfigError("got no CONFIG; give the YAML file of a sweep, such as configs/sweep_quickstart.yaml")
    given = read_yaml(path)
    grid = given.get("grid")
    for key in (*(grid if isinstance(grid, dict) else ()), *(["seed"] if given.get("seeds") else ())):
        if key in overrides:
            raise ConfigError(f"{flag_of(key)}: the grid says what {key} is; change it in {path}")
    out = {"out": overrides.pop("out")} if "out" in overrides else {}
    return SweepConfig.load(path, {**{f"base.{key}": value for key, value in overrides.items()}, **out})


def _say_size(record: SweepRecord) -> None:
    parts = ", ".join(f"{name} {size(n_bytes)}" for name, n_bytes in record.memory_bytes.items())
    needed = size(sum(record.memory_bytes.values()))
    print(f"sweep: {len(record.members)} members need about {needed} of memory ({parts})", file=sys.stderr)


def _print_plan(config: SweepConfig, plan: SweepPlan, *, as_json: bool) -> None:
    members = {member.name: dict(member.settings) for member in config.members()}
    facts = {"members": members, **asdict(plan), "fits_memory": plan.fits_memory}
    parts = ", ".join(f"{name} {size(n_bytes)}" for name, n_bytes in plan.memory_bytes.items())
    fits = "" if plan.fits_memory else ": DOES NOT FIT"
    together = plan.harvest_seconds + plan.steps_seconds
    shown = {
        f"{len(members)} members": "\n".join(members),
        "memory": f"{size(sum(plan.memory_bytes.values()))} of {size(plan.memory_available_bytes)}{fits} ({parts})",
        "time": f"{duration(together)} in one pass, {duration(plan.alone_seconds)} each alone: counted operations at "
        "typical rates, NOT measured, and may be wrong by several times",
    }
    print_facts(f"Sweep {config.out}", facts, as_json=as_json, shown=shown)


def _print_results(folder: SweepFolder, results: SweepResults, page: Path, *, as_json: bool) -> None:
    if as_json:
        facts = {"sweep": str(folder.path), "report": str(page), **results.to_json()}
        print_facts("Sweep", facts, as_json=True)
        return
    columns = ["", "EV", "L0", "ΔCE", "dead", "step, tokens/s"]
    print_grid(f"Sweep {folder.path}", columns, [_row(member) for member in results.members])
    cost = results.cost
    shown = {
        "harvest, once": duration(float(cost["harvest_seconds"] or 0)),
        "steps of all": duration(float(cost["steps_seconds"] or 0)),
        "each alone": duration(float(cost["alone_seconds"] or 0)),
        "saved by one pass": "not measured" if cost["saving"] is None else f"{cost['saving']:.1%}",
        "report": page.resolve().as_uri(),
    }
    print_facts("Cost", dict(cost), as_json=False, shown=shown)


def _row(member: MemberScore) -> list[str]:
    def written(value: float | None, form: str) -> str:
        return "not measured" if value is None else format(value, form)

    return [
        member.name,
        written(member.explained_variance, ".4f"),
        written(member.l0, ".2f"),
        written(member.ce_delta, "+.4f"),
        written(member.dead_share, ".2%"),
        written(member.tokens_per_s, ",.0f"),
    ]


def _say_who_failed(record: SweepRecord) -> None:
    """Raises: NonFiniteError naming the members that were set aside."""
    failed = {name: member.message for name, member in record.members.items() if member.status == "failed"}
    if failed:
        told = "; ".join(f"{name}: {message}" for name, message in failed.items())
        raise NonFiniteError(f"{len(failed)} of {len(record.members)} members failed, the others are whole: {told}")
