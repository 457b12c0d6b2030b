"""`interp lens`: train, apply and report logit, tuned and Future Lens."""

from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import COUNT
from interp.cli.lazy import ToldGroup
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid, shown_token
from interp.errors import ConfigError
from interp.lenses.config import LensConfig
from interp.lenses.divergence import LensDivergence
from interp.lenses.future import METHODS, Method
from interp.lenses.grid import LensGrid
from interp.lenses.logit import layer_name, reconstruction_of
from interp.lenses.reading import grids_of, measure_again, read_text
from interp.lenses.scoring import AT, Figure
from interp.lenses.table import MODES, LensTable
from interp.lenses.training import train_lens
from interp.recording import progress_of_stages
from interp.storage import make_folder

_EXAMPLES = """\b
Examples:
  interp lens train configs/lens_tuned.yaml
  interp lens train configs/lens_future_quick.yaml
  interp lens apply runs/lens_future_quick --text "Once upon a time there was a little girl"
  interp lens report runs/lens_tuned runs/lens_future_quick --out lens.html
"""
_TRAIN_EXAMPLES = """\b
Examples:
  interp lens train --lens tuned --out runs/tuned                   the embedded model, every layer
  interp lens train configs/lens_future_quick.yaml                  Future Lens, four methods, some minutes
  interp lens train configs/lens_future_quick.yaml --resume         go on after an interruption, bit for bit
  interp lens train --model gpt2 --dataset stories.jsonl --hooks blocks.5.hook_resid_post,blocks.8.hook_resid_post
"""
_APPLY_EXAMPLES = """\b
Examples:
  interp lens apply embedded --text "Once upon a time there was"             the logit lens, which needs no training
  interp lens apply runs/lens_tuned --text "Once upon a time there was"
  interp lens apply runs/lens_future_quick --text "Tom saw a" --method learned_prompt --json
  interp lens apply runs/lens_tuned --text "Tom saw a" --sae runs/quickstart  read the SAE's reconstruction instead
  interp lens apply runs/lens_future_quick --measure --sae runs/quickstart    the whole table on it
"""
_REPORT_EXAMPLES = """\b
Examples:
  interp lens report runs/lens_future_quick                                 writes report.html into the run
  interp lens report runs/lens_tuned runs/lens_future_quick --out lens.html  both on one page
  interp lens apply runs/lens_future_quick --measure --tuned runs/lens_tuned --out both.json
  interp lens report runs/lens_future_quick --table both.json               with the tuned lens among the arms
"""


@click.group("lens", cls=ToldGroup, epilog=_EXAMPLES)
def command() -> None:
    """What inner layers already say of the tokens to come: logit lens, tuned lens, Future Lens.

    The logit lens reads each layer as if it were the last one. The tuned lens corrects each layer first. Future Lens
    asks how many tokens ahead a single hidden state tells, in four ways, beside bigrams, trigrams and contexts alone.
    """


@command.command("train", cls=ConfigCommand, epilog=_TRAIN_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(LensConfig, aliases={"data.context_size": "--context-size"})
@click.option("--resume", is_flag=True, help="Go on with the run in --out if there is one; else start it.")
@json_option
def train(config_file: Path | None, resume: bool, as_json: bool, **flags: Any) -> None:
    """Train a lens and measure it on held-out text.

    Settings come from the YAML file CONFIG, then from flags. A tuned lens is measured by its divergence from the
    model beside the logit lens's; a Future Lens by precision and surprisal of every method and arm, at every layer.
    """
    config = LensConfig.load(config_file, overrides_from(LensConfig, flags))
    folder = train_lens(config, resume=resume)
    divergence, table = folder.divergence(), folder.table()
    if as_json:
        results = {"divergence": divergence and divergence.to_json(), "table": table and table.to_json()}
        print_facts("", {"run": str(folder.run.path), **results}, as_json=True)
        return
    if divergence is not None:
        _print_divergence(divergence)
    if table is not None:
        _print_table(table)
    print(f"\n{folder.run.path}: `interp lens report {folder.run.path}` writes the page")


@command.command("apply", epilog=_APPLY_EXAMPLES)
@click.argument("source", metavar="RUN|MODEL")
@click.option("--text", help="Text to read at every layer and token.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How a Future Lens reads; if not given, by linear_hidden, or what else it was trained for.",
)
@click.option("--measure", is_flag=True, help="Measure the lens on held-out text again instead of reading one text.")
@click.option("--tokens", default=50_000, show_default=True, type=COUNT, help="Tokens to measure a tuned lens on.")
@click.option("--sae", type=click.Path(path_type=Path), help="Run of an SAE: the lens reads its reconstruction.")
@click.option("--tuned", type=click.Path(path_type=Path), help="Run of a tuned lens that is measured beside.")
@click.option("--model", "model_name", help="The run's model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--out", type=click.Path(path_type=Path), help="File for the result as JSON; a run keeps its own grid.")
@json_option
def apply(
    source: str,
    text: str | None,
    method: Method | None,
    measure: bool,
    tokens: int,
    sae: Path | None,
    tuned: Path | None,
    model_name: str | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Read a text through a lens, or measure a lens on an SAE's reconstructions.

    RUN is a folder of `interp lens train`; a MODEL (embedded, a folder, a hub name) is read by the logit lens.
    """
    if measure == (text is not None):
        raise ConfigError("got both or neither of --text and --measure; give one of them")
    if measure and method is not None:
        raise ConfigError("got --method beside --measure, which measures every method; leave it out")
    if text is not None and tuned is not None:
        raise ConfigError("got --tuned beside --text; give the run of the tuned lens itself to read a text through it")
    if out is not None:
        make_folder(out.parent)
    shared: dict[str, Any] = {**_reconstruction(sae), "model_name": model_name, "device": device}
    result: LensDivergence | LensTable | LensGrid
    if text is not None:
        result = read_text(source, text, method=method, **shared)
    else:
        with progress_of_stages() as tell:
            result = measure_again(source, n_tokens=tokens, tuned=tuned, tell=tell, **shared)
    if out is not None:
        result.save(out)
    if as_json:
        print_facts("", result.to_json(), as_json=True)
    elif isinstance(result, LensDivergence):
        _print_divergence(result)
    elif isinstance(result, LensTable):
        _print_table(result)
    else:
        _print_text(result)


@command.command("report", epilog=_REPORT_EXAMPLES)
@click.argument("run_folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write; by default report.html in the first run.")
@click.option("--text", help="Text of the grid; one of the model's own kind if not given.")
@click.option(
    "--table", type=click.Path(path_type=Path), help="Table of `apply --measure --out` to show instead of a run's own."
)
def report(run_folders: tuple[Path, ...], out: Path | None, text: str | None, table: Path | None) -> None:
    """Write one or several lens runs as one HTML file that opens offline.

    The layer by token grid, precision and surprisal by layer and distance, the divergence of tuned and logit lens.
    """
    from dashboards.lens_page import write_lens_report

    if out is not None:
        make_folder(out.parent)
    held = None if table is None else LensTable.load(table)
    path = write_lens_report(run_folders, grids_of(run_folders, text), out, table=held)
    print(path)


def _reconstruction(sae: Path | None) -> dict[str, Any]:
    """What an SAE of a run makes of its hook, and the model that it belongs to."""
    if sae is None:
        return {}
    from saes.run_parts import open_run

    parts = open_run(sae)
    return {"reconstruct": reconstruction_of(parts.sae), "trained_on": parts.model.content_hash}


def _print_text(grid: LensGrid) -> None:
    """A line for each token and a column for each layer: texts are longer than models are deep."""
    columns = ("", *map(layer_name, grid.hooks))
    rows = [
        tuple(shown_token(grid.text(int(one))) for one in (token, *grid.top[:, position, 0, 0]))
        for position, token in enumerate(grid.tokens)
    ]
    # A title of the table's own would be broken to its width.
    print(f"{grid.method}: likeliest next token behind each token, by layer")
    print_grid("", columns, rows)


def _print_divergence(found: LensDivergence) -> None:
    rows = [
        (
            layer_name(layer.hook),
            _figure(Figure(layer.logit, layer.logit_interval)),
            _figure(Figure(layer.tuned, layer.tuned_interval)),
            _figure(Figure(layer.difference, layer.difference_interval)),
            "below" if layer.below else "not below",
        )
        for layer in found.layers
    ]
    title = f"KL to the model, nats per token ({found.n_tokens:,} tokens of {found.n_documents:,} documents)"
    if found.reconstructed:
        title += f", {', '.join(map(layer_name, found.reconstructed))} as reconstructed"
    print_grid(title, ("", "logit lens", "tuned lens", "tuned - logit", ""), rows)


def _print_table(table: LensTable) -> None:
    if reconstructed := table.provenance.get("reconstructed"):
        print(f"Lenses read {', '.join(map(layer_name, reconstructed))} as reconstructed.")
    for mode in MODES:
        for n in range(table.n_distances):
            rows = [row for row in table.rows if row.mode == mode and row.distance == n]
            cells = [
                (
                    row.arm,
                    "–" if row.hook is None else layer_name(row.hook),
                    *map(_figure, row.precision),
                    _figure(row.surprisal),
                )
                for row in rows
            ]
            title = f"\nN = {n}, {mode} ({table.decoding} continuations, {rows[0].n_examples} examples)" if rows else ""
            print_grid(title, ("", "layer", *(f"precision@{k}" for k in AT), "surprisal"), cells)


def _figure(figure: Figure) -> str:
    if figure.value != figure.value:
        return "not defined"
    if figure.interval is None:
        return f"{figure.value:.3f}"
    low, high = (f"{end:.2f}" for end in figure.interval)
    return f"{figure.value:.3f} ({low} to {high})"
