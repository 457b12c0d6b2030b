"""`interp study null-arms`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import COUNT
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.cli.study_table import print_arms
from interp.cli.train import ALIASES
from interp.studies.null_arms import run_null_arms
from saes.training import TrainConfig

_EXAMPLES = """\b
Examples:
  interp study null-arms configs/quickstart.yaml --out runs/quickstart   the run is used if it is there, else trained
  interp study null-arms --model ./stories260K --dataset stories.jsonl --hook blocks.2.hook_resid_post \\
      --tokens 1M --seeds 3 --out runs/stories
"""


@click.command("null-arms", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(min=1), help="Runs per arm, from --seed on.")
@click.option("--eval-tokens", default=100_000, show_default=True, type=COUNT, help="Held-out tokens to score on.")
@json_option
def command(config_file: Path | None, seeds: int, eval_tokens: int, as_json: bool, **flags: Any) -> None:
    """Score an SAE beside what it must beat.

    Trains the same SAE on the model with shuffled weights and with its decoder frozen at random; scores those, the SAE
    with its decoder rows permuted, random directions that fire as often and as strongly, and the SAE on shuffled
    tokens. Writes null_arms.json into the run folder and puts the arms beside the run's own evaluation.
    """
    config = TrainConfig.load(config_file, overrides_from(TrainConfig, flags))
    study = run_null_arms(config, n_seeds=seeds, n_tokens=eval_tokens)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        rows = {
            arm: {metric.replace("_", " "): figures for metric, figures in metrics.items()}
            for arm, metrics in study.summary().items()
        }
        print_arms("This SAE and what it must beat (mean ± sd over seeds)", rows)
