"""`interp study architectures`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import COUNT
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.cli.train import ALIASES
from interp.storage import write_text
from interp.studies.architectures import run_architectures
from interp.studies.architectures_results import ArchitecturesStudy
from interp.studies.architectures_settings import StudySettings, title_of
from probes.benchmark_rows import DENSE, MAJORITY
from probes.sparse_probing import KS
from saes.train_config import TrainConfig

_EXAMPLES = """\b
Examples:
  interp study architectures --model ./stories260K --dataset stories.jsonl --hook blocks.2.hook_resid_post \\
      --tokens 1M --d-sae 1024 --k 16 --lr 1e-3 --ud ./UD_English-EWT --out runs/architectures
  interp study architectures configs/quickstart.yaml --tokens 300k --seeds 2 --out runs/short   bundled concept sets
"""
_SHOWN = {
    "explained_variance": ("EV", "{:.4f}"),
    "l0": ("L0", "{:.2f}"),
    "ce_delta": ("ΔCE", "{:+.4f}"),
    "kl": ("KL", "{:.4f}"),
    "dead_share": ("dead", "{:.1%}"),
    "dense_share": ("dense", "{:.1%}"),
    "tokens_per_s": ("tokens/s", "{:,.0f}"),
}
_PROBES = {f"probe_k{k}": (f"{k} feature{'s' if k > 1 else ''}", "{:.3f}") for k in KS} | {
    f"random_k{k}": (f"{k} as frequent", "{:.3f}") for k in KS
}
ALIASES = {name: flag for name, flag in ALIASES.items() if name != "sae.architecture"}


@click.command("architectures", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(TrainConfig, aliases=ALIASES)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Runs per arm, from --seed on.")
@click.option("--eval-tokens", default="50k", show_default=True, type=COUNT, help="Held-out tokens to score on.")
@click.option(
    "--baseline-tokens",
    default="50k",
    show_default=True,
    type=COUNT,
    help="Training tokens that baselines are fitted to.",
)
@click.option(
    "--ud",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Treebank in CoNLL-U (*train*.conllu, *dev*.conllu) whose parts of speech, numbers and tenses are probed; "
    "unset: the bundled concept sets.",
)
@click.option(
    "--per-class",
    default=400,
    show_default=True,
    type=click.IntRange(min=4),
    help="Labelled words of each class of a treebank to train probes on; half as many are held out.",
)
@json_option
def command(
    config_file: Path | None,
    seeds: int,
    eval_tokens: int,
    baseline_tokens: int,
    ud: Path | None,
    per_class: int,
    as_json: bool,
    **flags: Any,
) -> None:
    """Compare every architecture on the same activations, at the same number of active features.

    Trains standard, gated, JumpReLU, TopK, BatchTopK and Matryoshka SAEs in one pass, several seeds each, and scores
    them on held-out text beside baselines that no network learned (PCA, ICA, random directions, neurons, k-means) and
    null arms (frozen decoder, model with shuffled weights, permuted decoder, matched random directions, untrained):
    explained variance, L0, ΔCE, dead share, speed of the step, and k-sparse probing. Writes architectures.json and
    architectures.html into --out; finished parts there are used again.
    """
    config = TrainConfig.load(config_file, overrides_from(TrainConfig, flags))
    study = run_architectures(StudySettings(config, seeds, eval_tokens, baseline_tokens, ud, per_class))
    page = _write_page(study, config.out)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study, page)


def _write_page(study: ArchitecturesStudy, out: Path) -> Path:
    # Drawing is not needed to train: a machine without plotly may leave it out.
    from dashboards.architectures_view import architectures_page

    page = out / "architectures.html"
    write_text(page, architectures_page(study.to_json()))
    return page


def _print(study: ArchitecturesStudy, page: Path) -> None:
    title = f"At L0 {study.target_l0:g}, {study.n_tokens:,} held-out tokens (mean ± sd over seeds)"
    _print_table(study, title, _SHOWN)
    _print_table(study, "Accuracy of probes on few features, or on others that fire as often (mean ± sd)", _PROBES)
    print_facts("", {}, as_json=False, shown=_notes(study, page))


def _print_table(study: ArchitecturesStudy, title: str, shown: Mapping[str, tuple[str, str]]) -> None:
    rows = [
        (title_of(arm), *(_spread(figures[metric], form) for metric, (_, form) in shown.items()))
        for arm, figures in study.summary().items()
    ]
    print_grid(title, ("", *(name for name, _ in shown.values())), rows)


def _notes(study: ArchitecturesStudy, page: Path) -> dict[str, str]:
    means = study.references.means()
    notes = {
        "probing": f"mean accuracy over concepts; dense probe {_written(means['model'].get(DENSE))}, "
        f"commoner answer {_written(means['model'].get(MAJORITY))}; on shuffled weights, dense probe "
        f"{_written(means['random_model'].get(DENSE))}",
        "tokens/s": "of the step alone, on this machine while it did whatever else it did",
    }
    if study.about.get("ce"):
        notes["ΔCE, KL"] = str(study.about["ce"])
    for arm, l0 in study.off_target().items():
        notes[f"L0 of {title_of(arm)}"] = f"{l0:.2f}, more than 5% from {study.target_l0:g}"
    return notes | {f"failed: {name}": why for name, why in study.failed.items()} | {"page": page.resolve().as_uri()}


def _written(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _spread(figures: Mapping[str, Any], form: str) -> str:
    if figures["mean"] is None:
        return "–"
    if figures["sd"] is None:
        return form.format(figures["mean"])
    return f"{form.format(figures['mean'])} ±{form.replace('+', '').format(figures['sd'])}".replace("±0.", "±.")
