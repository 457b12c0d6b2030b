"""`interp study matryoshka-toy`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.cli.study_table import Figures, print_arms
from interp.recording import ProgressLines
from interp.storage import make_folder, write_json
from interp.studies.matryoshka_toy import ToyStudy, collect, run_toy
from interp.studies.toy_training import ARMS, ToyConfig

_EXAMPLES = """\b
Examples:
  interp study matryoshka-toy                                  the published setting, five seeds
  interp study matryoshka-toy --steps 8000 --seeds 3 --json    shorter, as one JSON object
  interp study matryoshka-toy --eval-l0 0.85 --out runs/toy    scored at fewer active latents; writes runs/toy/toy.json
"""

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


@click.command("matryoshka-toy", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(ToyConfig)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write toy.json into.")
@json_option
def command(out: Path | None, as_json: bool, **flags: Any) -> None:
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
        print_arms(title, {arm: _named(metrics, _SHOWN) for arm, metrics in study.summary(l0).items()})


def _named(metrics: Mapping[str, Figures], names: Mapping[str, str]) -> dict[str, Figures]:
    return {name: metrics[key] for key, name in names.items()}
