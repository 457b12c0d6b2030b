"""`interp evaluate`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.output import json_option, print_facts
from interp.counts import parse_count
from saes.evaluate_run import evaluate_run

_EXAMPLES = """\b
Examples:
  interp evaluate runs/quickstart
  interp evaluate runs/quickstart --tokens 200k --json
  interp evaluate runs/quickstart --dataset other_stories.jsonl --split all
"""


class _Count(click.ParamType[int]):
    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = parse_count(value)
        if not isinstance(number, int):
            try:
                number = int(value)
            except ValueError:
                self.fail(f"got {value!r}; expected a number of tokens such as 100k", param, ctx)
        if number < 1:
            self.fail(f"got {value!r}; expected at least 1", param, ctx)
        return number


COUNT = _Count()


@click.command("evaluate", epilog=_EXAMPLES)
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--tokens", default=100_000, show_default=True, type=COUNT, help="Tokens to measure on.")
@click.option("--dataset", help="Other text than the run's own held-out split.")
@click.option("--split", type=click.Choice(["heldout", "train", "all"]), default="heldout", show_default=True)
@click.option("--model", "model_name", help="The run's model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap intervals.")
@json_option
def command(run_folder: Path, tokens: int, as_json: bool, **options: Any) -> None:
    """Measure a trained SAE on held-out text and write evaluation.json into the run folder.

    Explained variance, L0, dead and dense features; cross-entropy with the activations replaced by zero, by their mean
    and by the SAE's reconstruction; per prefix for Matryoshka. Intervals resample documents.
    """
    result = evaluate_run(run_folder, n_tokens=tokens, **options)
    print_facts(f"Evaluation of {run_folder}", result.to_json(), as_json=as_json, shown=result.shown())
