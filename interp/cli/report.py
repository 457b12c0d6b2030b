"""`interp report`."""

from pathlib import Path

import click

from interp.cli.output import json_option, print_facts
from interp.errors import ConfigError

_EXAMPLES = """\b
Examples:
  interp report runs/quickstart
  interp report runs/quickstart --out quickstart.html --tokens 500k
"""


@click.command("report", epilog=_EXAMPLES)
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write; by default report.html in the run folder.")
@click.option(
    "--tokens", show_default="200k", metavar="N", help="Text to look at features in, where the run has none yet."
)
@click.option("--model", "model_name", help="The run's model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@json_option
def command(
    run_folder: Path, out: Path | None, tokens: str | None, model_name: str | None, device: str, as_json: bool
) -> None:
    """Write a run as one HTML file: key figures, training curves, and an explorer of every feature.

    The explorer has a table to sort, filter and search, a page per feature, the tree of a Matryoshka dictionary and
    the decoder's map. The file opens from disk, without network. What is missing (evaluation, features, map) is
    computed first.
    """
    # Torch and plotly are slow to import: --help and a wrong flag need not wait for them.
    from interp.runs import RunFolder

    run = RunFolder.open(run_folder)
    from dashboards.report import report_run
    from interp.cli.evaluate import COUNT

    n_tokens = COUNT.convert("200k" if tokens is None else tokens, None, None)
    if tokens is not None:
        _check_tokens(run.features, n_tokens)
    path = report_run(run_folder, out=out, n_tokens=n_tokens, model_name=model_name, device=device)
    facts = {"report": str(path), "bytes": path.stat().st_size, "open": path.resolve().as_uri()}
    print_facts("Report", facts, as_json=as_json)


def _check_tokens(features: Path, n_tokens: int) -> None:
    """Raises: ConfigError if the run has features, from other than `n_tokens` tokens: they would be shown instead."""
    from saes.feature_files import HEAD_FILE, read_head

    if not (features / HEAD_FILE).exists():
        return
    then = read_head(features).get("provenance", {}).get("settings", {}).get("n_tokens")
    if then != n_tokens:
        raise ConfigError(
            f"--tokens: got {n_tokens:,}; the run has features already, of {then or 'unknown'} tokens; "
            "leave --tokens out, or collect them again with `interp features --tokens`"
        )
