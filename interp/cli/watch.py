"""`interp watch`."""

import sys
import time
from pathlib import Path

import click

from dashboards.watch_page import PageWriter, check_folder, under_way
from dashboards.watch_run import Seen
from interp.cli.output import json_option, print_facts
from interp.errors import ArtifactError

_EXAMPLES = """\b
Examples:
  interp watch runs/quickstart              beside a training; open the file it names in a browser
  interp watch runs/quickstart --once       how it stands, and no more
  interp watch runs/sweep --every 15        all runs of a sweep: a table, and a page for each
  interp watch runs/quickstart --once --json | jq .alerts
"""


@click.command("watch", epilog=_EXAMPLES)
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.5),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the page is written and loads itself anew.",
)
@click.option("--once", is_flag=True, help="Write the page once and end.")
@json_option
def command(folder: Path, every_s: float, once: bool, as_json: bool) -> None:
    """Show how a run goes while it trains: RUN/training.html, a small page that refreshes itself.

    Loss per prefix, L0, dead and dense features, gradient norms, threshold, throughput and where the time goes, with
    what goes wrong said in plain words. It opens from disk, without network, and ends with the run. For a folder with
    a runs/ subfolder (a sweep), a table leads to one page per run.
    """
    check_folder(folder)
    writer = _waited_for(folder, every_s, once=once)
    seen = writer.write()
    if not as_json:
        print(f"open {writer.path.resolve().as_uri()}", file=sys.stderr, flush=True)
    while not once and under_way(seen):
        time.sleep(every_s)
        seen = writer.write()
    print_facts("Watched", _facts(writer, seen), as_json=as_json, shown=_shown(writer, seen))


def _waited_for(folder: Path, every_s: float, *, once: bool) -> PageWriter:
    """A writer as soon as there is a run; told once that there is none yet."""
    told = False
    while True:
        try:
            return PageWriter(folder, every_s=None if once else every_s)
        except ArtifactError as error:
            if once:
                raise
            if not told:
                print(f"watch: {error}; waiting for it to start", file=sys.stderr, flush=True)
                told = True
        time.sleep(every_s)


def _facts(writer: PageWriter, seen: list[Seen]) -> dict[str, object]:
    runs = [{"name": one.name, "state": one.state, "step": one.facts["step"], **one.facts["last"]} for one in seen]
    found = [
        {"run": one.name, "name": a.name, "level": a.level, "step": a.step, "seen": a.seen, "advice": a.advice}
        for one in seen
        for a in one.alerts
    ]
    return {"page": str(writer.path), "runs": runs, "alerts": found}


def _shown(writer: PageWriter, seen: list[Seen]) -> dict[str, str]:
    lines = {"page": str(writer.path)}
    for one in seen:
        lines[one.name] = f"{one.state} at step {one.facts['step']:,}"
        for place, alert in enumerate(one.alerts, start=1):
            lines[f"{one.name}, {alert.level} {place}"] = alert.line()
    return lines
