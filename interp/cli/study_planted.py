"""`interp study planted-rule`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_text
from interp.studies.planted_results import PlantedArm, PlantedStudy
from interp.studies.planted_rule import PlantedConfig, run_planted_rule
from probes.intervals import Score

_EXAMPLES = """\b
Examples:
  interp study planted-rule                                  the embedded model, about three minutes
  interp study planted-rule --layer 1 --seed 3 --out runs/planted_1
  interp study planted-rule --steps 60 --pairs 40 --controls 20 --json
"""
_COLUMNS = ("", "trigger, payload", "other, payload", "gap", "probe at the cue", "feature AUC", "ablated", "p")


@click.command("planted-rule", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(PlantedConfig)
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """Do patching, a probe and an SAE find a rule that was planted, and nothing where none was?

    Finetunes one block's attention so that a cue word is followed by a payload wherever a trigger word stands before
    it, and a twin that writes the payload as often at random. On held-out stories and words: patching by layer and
    place, a probe at the cue of every layer, and one SAE feature, ablated and steered beside random features that fire
    as often and write as much. Writes planted_rule.json and planted_rule.html into --out.
    """
    config = PlantedConfig.load(None, overrides_from(PlantedConfig, flags))
    make_folder(config.out)
    with progress_of_stages() as tell:
        study = run_planted_rule(config, on_progress=tell)
    page = _write_page(study, config.out)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study, page)


def _write_page(study: PlantedStudy, out: Path) -> Path:
    # Drawing is not needed to plant: a machine without plotly may leave it out.
    from dashboards.planted_view import planted_page

    page = out / "planted_rule.html"
    write_text(page, planted_page(study.to_json()))
    return page


def _print(study: PlantedStudy, page: Path) -> None:
    title = f"Rule planted into the attention of block {study.layer}; {study.n_pairs} held-out stories (95% intervals)"
    print_grid(title, _COLUMNS, [_row(study, name, arm) for name, arm in study.arms.items()])
    arms = tuple(study.arms)
    rows = [
        (
            component,
            *(f"{arm.patching.at(component=component, place=p):+.2f}" for arm in study.arms.values() for p in _PLACES),
        )
        for component in study.arms[arms[0]].patching.axes[0].labels
    ]
    columns = ("", *(f"{name}, {place}" for name in arms for place in _PLACES))
    print_grid("Denoising: change of the logit difference, logits", columns, rows)
    print_facts("", {}, as_json=False, shown={"page": page.resolve().as_uri()})


_PLACES = ("trigger", "cue")


def _row(study: PlantedStudy, name: str, arm: PlantedArm) -> tuple[str, ...]:
    found = arm.feature
    return (
        name,
        _score(arm.payload_triggered),
        _score(arm.payload_untriggered),
        _score(arm.gap),
        _score(arm.probe[study.layer]),
        f"{_score(found.auc)} (feature {found.feature})",
        _score(found.ablated),
        f"{found.p_ablated:.3f}",
    )


def _score(score: Score) -> str:
    if score.interval is None:
        return f"{score.value:.2f}"
    return f"{score.value:.2f} ({score.interval[0]:.2f}–{score.interval[1]:.2f})"
