"""`interp circuit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dashboards.circuit_page import write_circuit_page
from interp.circuits import Circuit
from interp.cli.output import json_option, print_facts, print_grid, print_page
from interp.faithfulness import FaithfulnessCurve
from interp.outcomes import OUTCOMES
from interp.recording import progress_of_stages
from interp.storage import make_folder
from interp.studies.circuit_run import run_circuit

_EXAMPLES = """\b
Examples:
  interp circuit                                               heads and MLPs of the embedded model: he or she?
  interp circuit runs/layer_0 runs/layer_1 --out circuits/she  features of SAEs at two hooks of one model
  interp circuit runs/layer_* --prompts pairs.jsonl --baseline mean --json
  interp circuit --model gpt2 --prompts ioi.jsonl --nodes 0.01
\b
A line of a prompts file; answers are single tokens; cluster and split (train, heldout) may be left out:
  {"clean": "Lily sang because", "corrupt": "Jack sang because", "answer": " she", "foil": " he",
   "cluster": "Lily/Jack", "split": "train"}
"""
_SHARE: dict[str, Any] = {"show_default": True, "type": click.FloatRange(0.0, 1.0)}
_COUNT: dict[str, Any] = {"show_default": True, "type": click.IntRange(1)}
_SHOWN = 15


class _Sizes(click.ParamType[tuple[int, ...]]):
    name = "N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"got {value!r}; expected numbers from 1 on such as 4,16,64", param, ctx)
        return tuple(int(part) for part in parts)


@click.command("circuit", epilog=_EXAMPLES)
@click.argument("run_folders", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--prompts", type=click.Path(path_type=Path), help="JSONL file of prompt pairs; he or she after a name without."
)
@click.option("--model", "model_name", help="Model of the components [embedded], or the runs' if it has moved.")
@click.option(
    "--outcome",
    default="logit-difference",
    show_default=True,
    type=click.Choice(list(OUTCOMES)),
    help="What the circuit shall explain.",
)
@click.option(
    "--baseline",
    default="corrupt",
    show_default=True,
    type=click.Choice(["corrupt", "mean"]),
    help="What ablated features are set to: their values in the corrupt prompt, or their mean over the clean prompts.",
)
@click.option("--nodes", "node_threshold", default=0.02, help="Least effect of a node.", **_SHARE)
@click.option("--edges", "edge_threshold", default=0.005, help="Least effect of an edge.", **_SHARE)
@click.option("--steps", "n_steps", default=10, help="Steps of integration.", **_COUNT)
@click.option("--random", "n_random", default=100, help="Random circuits of each size.", **_COUNT)
@click.option(
    "--random-sizes",
    type=_Sizes(),
    default=(4, 16, 64, 256),
    help="Sizes of circuits of features that random ones are drawn for [4,16,64,256].",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Seed of draws.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for circuit.json and circuit.html.")
@json_option
def command(run_folders: tuple[Path, ...], out: Path | None, as_json: bool, **options: Any) -> None:
    """Which features, heads and MLPs cause an outcome, and how much of it they carry alone.

    RUNs are SAEs or transcoders at different hooks of one model; without a RUN the circuit is one of heads and MLPs.
    Nodes are scored by attribution on the training pairs and the strongest ablated for real. On held-out pairs all but
    the circuit is ablated, by size of the circuit, beside random circuits with as many nodes at each hook. Effects are
    shares of what ablating everything takes away; edges must not be added up.
    """
    if out is not None:
        make_folder(out)
    with progress_of_stages() as tell:
        circuit = run_circuit(run_folders, on_progress=tell, **options)
    if out is not None:
        circuit.save(out / "circuit.json")
        write_circuit_page(circuit, out / "circuit.html")
    if as_json:
        print_facts("", circuit.to_json(), as_json=True)
        return
    _print(circuit)
    if out is not None:
        print_page(out / "circuit.html")


def _print(circuit: Circuit) -> None:
    reference = ", ".join(f"{name} {value:+.3f}" for name, value in circuit.reference.items())
    of = f"{circuit.n_prompts} pairs, {circuit.n_candidates} candidates"
    print(f"{circuit.outcome}: {reference} {circuit.units}; {of}")
    rows = [(n.name, f"{n.effect:+.3f}", _signed(n.ablation), " ".join(n.tokens)) for n in circuit.nodes[:_SHOWN]]
    title = f"{len(circuit.nodes)} nodes, {len(circuit.edges)} edges"
    print_grid(title, ("", "attribution", "ablation", "fires on"), rows)
    for curve in circuit.curves:
        print_grid(
            f"Faithfulness on {curve.n_prompts} held-out pairs, {curve.arm}",
            (
                "nodes",
                "circuit",
                "95% interval",
                "without it",
                f"median of {len(curve.random)} random",
                "95% of random",
            ),
            _curve_rows(curve),
        )


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _curve_rows(curve: FaithfulnessCurve) -> Sequence[Sequence[str]]:
    rows = []
    for index, size in enumerate(curve.sizes):
        drawn = curve.random_spread(index)
        middle, spread = ("", "") if drawn is None else (f"{drawn[1]:.3f}", f"{drawn[0]:.3f} to {drawn[2]:.3f}")
        interval = "" if curve.interval is None else f"{curve.interval[0, index]:.3f} to {curve.interval[1, index]:.3f}"
        found = (f"{size:,}", f"{curve.faithfulness[index]:.3f}", interval, f"{curve.rest[index]:.3f}", middle, spread)
        rows.append(found)
    return rows
