"""`interp study feature-sample`."""

from pathlib import Path

import click
import numpy as np

from interp.cli.evaluate import COUNT
from interp.cli.output import json_option, print_facts, print_grid
from interp.recording import progress_of_stages
from interp.studies.feature_sample import MEASURES, ArmSample, FeatureSampleStudy, SampledFeature, run_feature_sample
from interp.studies.null_arms import TRAINED

_EXAMPLES = """\b
Examples:
  interp study feature-sample runs/quickstart
  interp study feature-sample runs/quickstart --seed 1 --tokens 400k --json
"""


@click.command("feature-sample", epilog=_EXAMPLES)
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Seed of the draw.")
@click.option("--tokens", default=200_000, show_default=True, type=COUNT, help="Tokens to look at in every arm.")
@json_option
def command(run_folder: Path, seed: int, tokens: int, as_json: bool) -> None:
    """Thirty features drawn by seed, none picked by hand, beside the features of null arms.

    For each: how well its shown windows, the current token, or it with the one before, tell where the feature fires on
    documents that are not shown (AUC; 0.5 is chance). The same is drawn from the SAE trained on the model with shuffled
    weights, with its decoder frozen, from random directions that fire as often, and on shuffled tokens; arms that are
    not there yet are trained. Writes feature_sample.json into the run folder.
    """
    with progress_of_stages() as tell:
        study = run_feature_sample(run_folder, seed=seed, n_tokens=tokens, on_progress=tell)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
        return
    own = study.arms[TRAINED]
    n = len(own.features)
    print_grid(f"{n} of {own.n_alive:,} features that fire, drawn with seed {seed}", _SAMPLE_COLUMNS, _sample(own))
    print_grid("The same draw from what it must beat: median (quartiles)", _ARM_COLUMNS, _arms(study))


_SAMPLE_COLUMNS = ("feature", "density", "detection AUC", "token AUC", "bigram AUC", "fires on")
_ARM_COLUMNS = ("", "features that fire", "drawn, measured", "detection AUC", "token AUC", "bigram AUC")


def _sample(arm: ArmSample) -> list[tuple[str, ...]]:
    return [
        (str(row.feature), f"{row.density:.3%}", *(_auc(getattr(row, measure)) for measure in MEASURES), _fires_on(row))
        for row in arm.features
    ]


def _fires_on(row: SampledFeature) -> str:
    return " ".join(text.replace(" ", "␣").replace("\n", "↵") for text in row.fires_on)


def _arms(study: FeatureSampleStudy) -> list[tuple[str, ...]]:
    return [
        (name, f"{arm.n_alive:,}", f"{arm.n_measured()}", *(_spread(arm.quartiles(measure)) for measure in MEASURES))
        for name, arm in study.arms.items()
    ]


def _auc(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _spread(quartiles: tuple[float, float, float] | None) -> str:
    if quartiles is None:
        return "not measured"
    low, middle, high = quartiles
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"
