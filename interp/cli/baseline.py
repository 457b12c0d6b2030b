"""`interp baseline`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import COUNT
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.runs import RunFolder
from saes.baseline_run import run_baseline
from saes.baselines import KINDS, Kind
from saes.train_config import TrainConfig

_EXAMPLES = """\b
Examples:
  interp baseline pca configs/quickstart.yaml --out runs/pca                  beside runs/quickstart, at the same k
  interp baseline kmeans configs/quickstart.yaml --d-sae 512 --out runs/kmeans
  interp baseline neurons --hook blocks.2.mlp.hook_post --k 32 --out runs/neurons --sample 50k
  interp evaluate runs/pca                                                    scored as a trained SAE is
"""

ALIASES = {"sae.k": "--k", "sae.d_sae": "--d-sae"}


@click.command("baseline", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option(
    "--sample",
    "n_tokens",
    default="200k",
    show_default=True,
    type=COUNT,
    help="Tokens of the training stream to fit on, held in memory together; at most --tokens.",
)
@json_option
def command(kind: Kind, config_file: Path | None, n_tokens: int, as_json: bool, **flags: Any) -> None:
    """Fit a dictionary that no network learned, for `interp evaluate`, `features` and `report` to judge as an SAE.

    pca, ica and neurons have two features for each component or neuron, one a sign; random has --d-sae directions. Of
    each token the --k largest contributions are kept. kmeans has --d-sae centroids, of which a token is the nearest
    one. Settings are those of `interp train`: of the SAE's, k and d_sae count.
    """
    config = TrainConfig.load(config_file, overrides_from(TrainConfig, flags))
    run = run_baseline(kind, config, n_tokens=n_tokens)
    print_facts(f"Fitted {run.name}", summary(run), as_json=as_json)


def summary(run: RunFolder) -> dict[str, Any]:
    """Where the run is, its size and what its fit told."""
    config, results = run.config(TrainConfig), run.manifest().results
    size = {"d_sae": config.sae.d_sae, "k": config.sae.k, "tokens": config.tokens}
    return {"run": str(run.path), "sae": str(run.sae), **results, **size}
