"""`interp study`: published results repeated, and what a result must beat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import COUNT
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.cli.study_architectures import command as architectures
from interp.cli.study_codebook_language import command as codebook_language
from interp.cli.study_features import command as feature_sample
from interp.cli.study_names import command as name_hierarchy
from interp.cli.study_planted import command as planted_rule
from interp.cli.study_pronouns import command as name_pronoun
from interp.cli.study_synthetic import command as synthetic
from interp.cli.study_tokfsm import command as tokfsm
from interp.cli.train import ALIASES
from interp.recording import ProgressLines
from interp.storage import make_folder, write_json
from interp.studies.matryoshka_toy import ToyStudy, collect, run_toy
from interp.studies.null_arms import run_null_arms
from interp.studies.toy_training import ARMS, ToyConfig
from saes.training import TrainConfig

_EXAMPLES = """\b
Examples:
  interp study matryoshka-toy --steps 8000 --seeds 3
  interp study synthetic --out runs/synthetic
  interp study null-arms --model ./stories260K --hook blocks.2.hook_resid_post --tokens 1M --out runs/stories
  interp study feature-sample runs/stories
  interp study name-hierarchy --out runs/names
  interp study name-pronoun --out runs/pronouns
  interp study planted-rule --out runs/planted
  interp study tokfsm --out runs/tokfsm
  interp study codebook-language --out runs/codebook_language
  interp study architectures --hook blocks.2.hook_resid_post --tokens 300k --d-sae 1024 --k 16 --out runs/architectures
"""

_TOY_EXAMPLES = """\b
Examples:
  interp study matryoshka-toy                                  the published setting, five seeds
  interp study matryoshka-toy --steps 8000 --seeds 3 --json    shorter, as one JSON object
  interp study matryoshka-toy --eval-l0 0.85 --out runs/toy    scored at fewer active latents; writes runs/toy/toy.json
"""

_NULL_EXAMPLES = """\b
Examples:
  interp study null-arms configs/quickstart.yaml --out runs/quickstart   the run is used if it is there, else trained
  interp study null-arms --model ./stories260K --dataset stories.jsonl --hook blocks.2.hook_resid_post \\
      --tokens 1M --seeds 3 --out runs/stories
"""

Figures = Mapping[str, Any]
_SHOWN = {
    "parents.precision": "precision",
    "parents.recall": "recall",
    "parents.recall_with_child": "with child",
    "parents.f1": "F1",
    "parents.cosine": "cosine",
    "children.f1": "children F1",
    "explained_variance": "EV",
    "l0": "L0",
}


@click.group("study", epilog=_EXAMPLES)
def command() -> None:
    """Repeat a published result, or measure what a result must beat."""


@command.command("matryoshka-toy", cls=ConfigCommand, epilog=_TOY_EXAMPLES)
@config_options(ToyConfig)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write toy.json into.")
@json_option
def matryoshka_toy(out: Path | None, as_json: bool, **flags: Any) -> None:
    """Do nested prefixes keep parents that a plain SAE absorbs into their children?

    Trains L1, BatchTopK and Matryoshka SAEs, with a frozen random decoder and an untrained SAE beside them, on a tree
    of 20 known features, and scores all at the same number of active latents.
    """
    config = ToyConfig.load(None, overrides_from(ToyConfig, flags))
    if out is not None:
        make_folder(out)
    runs = []
    with ProgressLines("matryoshka-toy", config.seeds * len(ARMS)) as progress:
        for run in run_toy(config):
            runs.append(run)
            progress.show(len(runs), f"{run[0].arm} seed {run[0].seed}")
    study = collect(config, runs)
    if out is not None:
        write_json(out / "toy.json", study.to_json())
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print_toy(study)


def _print_toy(study: ToyStudy) -> None:
    for l0 in study.config.eval_l0:
        title = f"Parents, one latent for each, at L0 {l0:g} (mean ± sd over seeds)"
        _print_table(title, {arm: _named(metrics, _SHOWN) for arm, metrics in study.summary(l0).items()})


def _named(metrics: Mapping[str, Figures], names: Mapping[str, str]) -> dict[str, Figures]:
    return {name: metrics[key] for key, name in names.items()}


def _print_table(title: str, rows: Mapping[str, Mapping[str, Figures]]) -> None:
    columns = ("", *next(iter(rows.values())))
    print_grid(title, columns, [(arm, *map(_spread, figures.values())) for arm, figures in rows.items()])


def _spread(figures: Figures) -> str:
    if figures["mean"] is None:
        return "–"
    return f"{figures['mean']:.3f}" + (f" ±{figures['sd']:.3f}" if figures["sd"] is not None else "")


@command.command("null-arms", cls=ConfigCommand, epilog=_NULL_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(min=1), help="Runs per arm, from --seed on.")
@click.option("--eval-tokens", default=100_000, show_default=True, type=COUNT, help="Held-out tokens to score on.")
@json_option
def null_arms(config_file: Path | None, seeds: int, eval_tokens: int, as_json: bool, **flags: Any) -> None:
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
        _print_table("This SAE and what it must beat (mean ± sd over seeds)", rows)


command.add_command(feature_sample)
command.add_command(synthetic)
command.add_command(name_hierarchy)
command.add_command(architectures)
command.add_command(planted_rule)
command.add_command(name_pronoun)
command.add_command(tokfsm)
command.add_command(codebook_language)
