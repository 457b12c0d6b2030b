"""`interp study name-hierarchy`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.storage import make_folder
from interp.studies.name_hierarchy import NameHierarchyConfig, run_name_hierarchy
from interp.studies.name_hierarchy_results import METRICS, NameHierarchyStudy

_EXAMPLES = """\b
Examples:
  interp study name-hierarchy                                    the embedded model, five seeds, about ten minutes
  interp study name-hierarchy --seeds 2 --tokens 100k --out runs/short --json
  interp study name-hierarchy --model ./stories260K --dataset stories.jsonl --hook blocks.3.hook_resid_post \\
      --out runs/stories --names names.yaml
"""
_SHOWN = {"hole_share": "holes", "least_recall": "worst name", "f1": "F1"}


@click.command("name-hierarchy", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(NameHierarchyConfig)
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """Does one latent stay silent on some persons' names, and does a Matryoshka SAE keep it whole?

    Trains BatchTopK and Matryoshka SAEs and scores the best single latent for "a person's name", "a female name" and "a
    male name" at the same number of active latents: precision, recall, and the names on which it hardly fires (holes).
    Beside them an SAE with a frozen decoder, an untrained one, the best neuron, and a probe that sees everything.
    Writes name_hierarchy.json into --out; finished runs there are used again.
    """
    config = NameHierarchyConfig.load(None, overrides_from(NameHierarchyConfig, flags))
    make_folder(Path(config.out))
    # Training shows its own progress.
    study = run_name_hierarchy(config)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        print_study(study)


def print_study(study: NameHierarchyStudy) -> None:
    """One table for each parent."""
    metrics = (*METRICS, "explained_variance", "l0")
    names = {"explained_variance": "EV", "l0": "L0", **_SHOWN}
    for parent in study.parents:
        n_tokens, n_words = study.occurrences[parent]
        title = f"{parent}: {n_tokens:,} of {study.n_tokens:,} held-out tokens, {n_words} names (mean ± sd over seeds)"
        rows = [
            (arm.replace("_", " "), *(_spread(figures[metric]) for metric in metrics))
            for arm, figures in study.summary(parent).items()
        ]
        print_grid(title, ("", *(names.get(metric, metric) for metric in metrics)), rows)


def _spread(figures: dict[str, Any]) -> str:
    if figures["mean"] is None:
        return "–"
    return f"{figures['mean']:.3f}" + (f" ±{figures['sd']:.3f}" if figures["sd"] is not None else "")
