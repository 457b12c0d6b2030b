"""`interp disentangle`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dashboards.disentanglement_view import disentanglement_page
from interp.cli.evaluate import SEED
from interp.cli.output import json_option, print_facts, print_grid, print_page
from interp.errors import ConfigError
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_json, write_text
from interp.studies.disentanglement_runs import run_disentanglement
from probes.disentanglement import COMMONEST, GEOMETRY, METRICS
from probes.disentanglement_report import DisentanglementReport
from probes.intervals import Score

_EXAMPLES = """\b
Examples:
  interp disentangle runs/quickstart                     the bundled sets that have two kinds of labels or more
  interp disentangle runs/quickstart --sets nouns,names --page report.html
  interp disentangle runs/quickstart --concepts mine.yaml --json --out disentanglement.json
  interp disentangle runs/quickstart --labels UD_English-EWT --attributes pos,relation   every word of a treebank
  interp disentangle runs/quickstart --labels reviews.csv --attributes tone,length --clusters document
"""


@click.command("disentangle", epilog=_EXAMPLES)
@click.argument("source", metavar="SAE")
@click.option(
    "--concepts",
    "concepts_file",
    type=click.Path(path_type=Path),
    help="File of labelled texts (.jsonl or .yaml; probes/concepts.py says how) instead of the bundled ones.",
)
@click.option("--sets", metavar="NAME,…", help="Sets of examples to measure; by default those with two labels or more.")
@click.option(
    "--labels",
    "labels_file",
    type=click.Path(path_type=Path),
    help="Labelled places instead of concepts: .conllu or its folder, .csv or .jsonl (probes/label_files.py says how).",
)
@click.option("--attributes", metavar="NAME,…", help="Kinds of labels: pos, relation, …, or fields of a table.")
@click.option(
    "--examples", default=1000, show_default=True, type=click.IntRange(min=20), help="Most places of --labels to use."
)
@click.option(
    "--clusters",
    type=click.Choice(["word", "document"]),
    default="word",
    show_default=True,
    help="What is held out and resampled whole in --labels.",
)
@click.option(
    "--halves", default=20, show_default=True, type=click.IntRange(min=2), help="Random halves that intervals go by."
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of splits, trees, halves and the null.")
@click.option("--model", "model_name", help="The SAE's model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--page", type=click.Path(path_type=Path), help="HTML file to write figures and tables to.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write the figures to, as JSON.")
@json_option
def command(
    source: str,
    concepts_file: Path | None,
    sets: str | None,
    labels_file: Path | None,
    attributes: str | None,
    page: Path | None,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """How far single features stand for single kinds of labels: MIG, DCI, SAP, modularity, InfoMEC, VNE, ranks.

    SAE is a run folder, or a folder, file or hub repository that holds an SAE. Beside its features stand the neurons,
    the neurons randomly rotated (the same space without its axes), cross-fitted probe directions, and the features
    against shuffled labels. What is fitted is scored on held-out words; intervals resample words. InfoM and InfoC are
    left out where InfoE says that the labels cannot be read.
    """
    for path in (page, out):
        if path is not None:
            make_folder(path.parent)
    if labels_file is not None and (concepts_file is not None or sets):
        raise ConfigError("got --labels beside --concepts or --sets; give one source of labels")
    options |= {"concepts_file": concepts_file, "sets": _names(sets)}
    options |= {"labels_file": labels_file, "attributes": _names(attributes)}
    with progress_of_stages() as tell:
        reports = run_disentanglement(source, tell=tell, **options)
    held = {"reports": [report.to_json() for report in reports]}
    if out is not None:
        write_json(out, held)
    if page is not None:
        write_text(page, disentanglement_page(reports))
    if as_json:
        print_facts("", held, as_json=True)
        return
    _print(reports)
    if page is not None:
        print_page(page)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _print(reports: Sequence[DisentanglementReport]) -> None:
    for report in reports:
        first = report.arms[0]
        of = f"{first.n_examples} examples of {first.n_clusters} {report.provenance['clusters']}s"
        title = f"{report.title} ({', '.join(first.factors)}): {of}"
        rows = [
            (metric, *(_short(arm.scores[metric]) for arm in report.arms))
            for metric in (*METRICS, COMMONEST, *GEOMETRY)
        ]
        print_grid(title, ("", *(arm.name for arm in report.arms)), rows)


def _short(score: Score) -> str:
    if not score.defined:
        return "not defined"
    between = "" if score.interval is None else f" ({score.interval[0]:.2f}–{score.interval[1]:.2f})"
    return f"{score.value:.3f}{between}"
