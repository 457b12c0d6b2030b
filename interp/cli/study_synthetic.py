"""`interp study synthetic`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.recording import ProgressLines
from interp.storage import make_folder, write_json, write_text
from interp.studies.synthetic import SyntheticStudy, collect, run_synthetic
from interp.studies.synthetic_training import ARMS, SyntheticStudyConfig

_EXAMPLES = """\b
Examples:
  interp study synthetic --out runs/synthetic                 ten seeds; taken up again where it was stopped
  interp study synthetic --steps 500 --seeds 2 --json         shorter, as one JSON object
  interp study synthetic --data.n-trees 0 --data.lift 1       without hierarchy and without correlation
"""
_SHOWN = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "mcc": "MCC",
    "explained_variance": "EV",
    "absorption": "absorption",
    "hedging": "hedging",
    "dead_share": "dead",
    "l0": "L0",
}


@click.command("synthetic", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(SyntheticStudyConfig)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for synthetic.json, synthetic.html and each run.")
@json_option
def command(out: Path | None, as_json: bool, **flags: Any) -> None:
    """Which SAEs find known features, among hierarchy, correlation and superposition?

    Trains Matryoshka, BatchTopK and L1 SAEs on activations made of known features, with a frozen random decoder, an
    untrained SAE and the true directions beside them, and scores all at the same number of active latents: F1 of
    firing, cosine with the truth (MCC), explained variance, absorption and hedging.
    """
    config = SyntheticStudyConfig.load(None, overrides_from(SyntheticStudyConfig, flags))
    runs = []
    with ProgressLines("synthetic", config.seeds * len(ARMS)) as progress:
        for run in run_synthetic(config, None if out is None else make_folder(out) / "runs"):
            runs.append(run)
            progress.show(len(runs), f"{run.arm} seed {run.seed}")
    study = collect(config, runs)
    if out is not None:
        _write(study, out)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study)


def _write(study: SyntheticStudy, out: Path) -> None:
    # Drawing is not needed to train: a machine without plotly may leave it out.
    from dashboards.synthetic_view import synthetic_page

    write_json(out / "synthetic.json", study.to_json())
    write_text(out / "synthetic.html", synthetic_page(study.to_json()))


def _print(study: SyntheticStudy) -> None:
    data, config = study.config.data, study.config
    title = (
        f"{data.n_features:,} true features in {data.width} dimensions, {config.d_sae} latents "
        f"(mean ± sd, {config.seeds} seeds)"
    )
    rows = [(arm, *(_spread(metrics[name]) for name in _SHOWN)) for arm, metrics in study.summary().items()]
    print_grid(title, ("", *_SHOWN.values()), rows)
    held = [
        (_SHOWN[metric], " > ".join(facts["order"]), ", ".join(f"{n} of {facts['seeds']}" for n in facts["seeds_held"]))
        for metric, facts in study.orders().items()
    ]
    print_grid("Published order; seeds on which each step holds", ("", "", ""), held)


def _spread(figures: Mapping[str, Any]) -> str:
    if figures["mean"] is None:
        return "–"
    # Nine columns of it fit into a line of a pipe.
    sd = "" if figures["sd"] is None else f"±{figures['sd']:.3f}".replace("±0", "±")
    return f"{figures['mean']:.3f}{sd}"
