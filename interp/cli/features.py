"""`interp features`."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from dashboards.report import describe_features
from interp.cli.evaluate import COUNT, SEED
from interp.cli.output import json_option, print_facts
from saes.feature_files import read_head
from saes.features import FeatureSettings, FeatureStatistics, export_parquet
from saes.run_parts import open_run

_EXAMPLES = """\b
Examples:
  interp features runs/quickstart
  interp features runs/quickstart --tokens 2M --examples 40 --window 48
  interp features runs/quickstart --dataset other_stories.jsonl --export parquet
"""


@click.command("features", epilog=_EXAMPLES)
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--tokens", default="200k", show_default=True, type=COUNT, help="Tokens to look at, about.")
@click.option("--dataset", help="Other text than the run's own training split; not split, read up to --tokens.")
@click.option(
    "--examples", default=20, show_default=True, type=click.IntRange(1, 1000), help="Strongest contexts per feature."
)
@click.option(
    "--window", default=32, show_default=True, type=click.IntRange(1, 1024), help="Tokens of text in a context."
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the random contexts and of the text.")
@click.option(
    "--export", type=click.Choice(["parquet"]), help="Also write features.parquet and windows.parquet beside them."
)
@click.option("--model", "model_name", help="The run's model if it has moved; its content must be the same.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@json_option
def command(
    run_folder: Path,
    tokens: int,
    dataset: str | None,
    examples: int,
    window: int,
    seed: int,
    export: str | None,
    model_name: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Find out everything about every feature in one pass over text, into the run's features folder.

    Per feature: density with an interval over documents, histogram, strongest, random and quantile contexts, logit
    effects, features that fire along, decoder neighbours, Matryoshka parents and children, and how well the current
    token, the bigram, or the contexts shown tell where it fires. If it is interrupted, the same command goes on.
    """
    parts = open_run(run_folder, model_name=model_name, device=device)
    settings = FeatureSettings(n_tokens=tokens, n_top=examples, window=window, seed=seed)
    statistics = describe_features(parts, settings, dataset=dataset)
    facts: dict[str, Any] = {"features": str(parts.run.features), **summary(statistics)}
    if export is not None:
        provenance = read_head(parts.run.features)["provenance"]
        written = export_parquet(statistics, parts.run.features, provenance=provenance)
        facts["parquet"] = [str(path) for path in written]
    print_facts(f"Features of {run_folder}", facts, as_json=as_json)


def summary(statistics: FeatureStatistics) -> dict[str, Any]:
    """Counts, and medians over the features for which each was measured (null: none was)."""
    measured = {
        f"median_{name}": _median(getattr(statistics, name)) for name in ("token_auc", "bigram_auc", "detection_auc")
    }
    return {
        "d_sae": statistics.d_sae,
        "alive": int((statistics.firings > 0).sum()),
        "tokens": statistics.n_tokens,
        "documents": statistics.n_documents,
        **measured,
    }


def _median(values: np.ndarray) -> float | None:
    found = values[~np.isnan(values)]
    return float(np.median(found)) if found.size else None
