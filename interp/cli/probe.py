"""`interp probe`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.recording import progress_of_stages
from interp.studies.probe_runs import run_probes
from probes import probe_results as results
from probes.probe_config import ProbeConfig
from probes.probe_results import ProbeReport, ProbeRow, score_text

_EXAMPLES = """\b
Examples:
  interp probe configs/probe_pos.yaml --labels.path treebank/         part of speech, number, tense, relation
  interp probe --labels.source first_letter --hooks hook_resid_post   a rule on the embedded model's own stories
  interp probe --labels.source pattern --labels.pattern '(?i)\\bshe\\b' --splits document
  interp probe --labels.source records --labels.path mine.csv --model gpt2 --saes runs/gpt2_sae
"""
_COLUMNS = (
    results.LOGISTIC, results.CONTROL, results.SELECTIVITY, results.IN_DISTRIBUTION, results.NONLINEAR,
)  # fmt: skip


@click.command("probe", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(ProbeConfig)
@json_option
def command(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Ask at every layer what can be read there: probes, with their controls.

    Labels come from a treebank, a table, a rule, the next token or another model. One forward pass harvests all hooks;
    at each, and on the features of SAEs, stand logistic, mean-difference, k-sparse and nonlinear probes, beside the
    commonest class, the tokens alone, a control task (selectivity) and the description length of the labels. What is
    held out is held out by document, and by word as well. All intervals resample documents.
    """
    config = ProbeConfig.load(config_file, overrides_from(ProbeConfig, flags))
    with progress_of_stages() as tell:
        run = run_probes(config, on_progress=tell)
    if as_json:
        print_facts("", run.report.to_json(), as_json=True)
        return
    for attribute in run.report.attributes:
        for split in run.report.splits[attribute]:
            _print_table(run.report, attribute, split)
    print(f"\nReport: {run.page_path}\nFigures: {run.json_path}")


def _print_table(report: ProbeReport, attribute: str, split: str) -> None:
    about = report.splits[attribute][split]
    told = {probe: _value(report.find(attribute, split, probe)) for probe in (results.MAJORITY, results.BAG_OF_TOKENS)}
    title = (
        f"\n{attribute}, held out by {split}: {about['n_train']:,} to train, {about['n_test']:,} held out from "
        f"{about['n_test_documents']} documents; {', '.join(f'{name} {value}' for name, value in told.items())}"
    )
    columns = [probe for probe in _COLUMNS if report.find(attribute, split, probe)]
    lengths = {row.site: row.length for row in report.descriptions if row.attribute == attribute}
    coded = split == "document" and bool(lengths)

    def line(site: str) -> Iterator[str]:
        yield site
        for probe in columns:
            yield score_text(next((row.score for row in report.find(attribute, split, probe, site=site)), None))
        if coded:
            yield next(
                score_text(row.length.compression)
                for row in report.descriptions
                if (row.attribute, row.site, row.of) == (attribute, site, results.LABELS)
            )

    heads = ["", *columns, *(["compression"] if coded else [])]
    print_grid(title, heads, (list(line(site.name)) for site in report.sites))


def _value(rows: list[ProbeRow]) -> str:
    return score_text(rows[0].score) if rows else "not measured"
