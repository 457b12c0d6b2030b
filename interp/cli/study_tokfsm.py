"""`interp study tokfsm`."""

import math
from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.codebooks.tokfsm_results import COLUMNS, PRECISION_COLUMNS, TokFSMStudy
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_text
from interp.studies.tokfsm import PUBLISHED_PRECISION, TokFSMConfig, run_tokfsm

_EXAMPLES = """\b
Examples:
  interp study tokfsm                                a reduced size, under twenty minutes on one core
  interp study tokfsm --size paper --device cuda --out runs/tokfsm_paper
  interp study tokfsm --size tiny --out runs/tokfsm_tiny --json
"""


@click.command("tokfsm", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(TokFSMConfig)
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """Do codes keep apart states that a model has too few neurons for?

    A machine of 100 states, each written as two digits, each leading to ten others. A GPT-NeoX learns its walks; then
    with codebooks inside. Loss, accuracy and state accuracy beside the published ones and the best possible; how
    precisely the best code tells each state, alone and with the digit behind it, beside the best neuron at the same
    recall, for each site of codes; and codes of another state put in at one token, beside random ones as frequent.
    Writes tokfsm.json, tokfsm.html and a run folder for each arm; the same command goes on where it was stopped.
    """
    config = TokFSMConfig.load(None, overrides_from(TokFSMConfig, flags))
    make_folder(config.out)
    with progress_of_stages() as tell:
        study = run_tokfsm(config, on_progress=tell)
    study.save(config.out / "tokfsm.json")
    page = _write_page(study, config.out)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study, page)


def _write_page(study: TokFSMStudy, out: Path) -> Path:
    # Drawing is not needed to train: a machine without plotly may leave it out.
    from dashboards.tokfsm_view import tokfsm_page

    page = out / "tokfsm.html"
    write_text(page, tokfsm_page(study))
    return page


def _print(study: TokFSMStudy, page: Path) -> None:
    title = f"TokFSM, size {study.size}: ours (published at full size)"
    print_grid(title, COLUMNS, study.rows())
    shown = {
        "state+digit pairs": f"{study.n_pairs} (686)",
        "best possible at this length": f"{study.bayes_loss:.4f} nats, {study.bayes_accuracy:.2%}",
        "best possible at 128": f"{study.bayes_at_128[0]:.4f} nats (1.1748), {study.bayes_at_128[1]:.2%} (46.38%)",
    }
    for arm in study.arms:
        if arm.precision is not None and not math.isnan(arm.precision[0]):
            code, neuron = (f"{100 * x:.1f}" for x in arm.precision)
            told = "published {:g}, {:g}".format(*PUBLISHED_PRECISION)
            shown[f"precision, {arm.name}"] = f"codes {code}, neurons {neuron} over {arm.n_states} states ({told})"
    print_facts("", {}, as_json=False, shown=shown)
    if by_site := study.precision_rows():
        print_grid("Precision of the best code, and of the best neuron at its recall", PRECISION_COLUMNS, by_site)
    rows = [
        (
            arm.name, one.kind, one.where, f"{one.jsd:.3f}", f"{one.floor:.3f}",
            f"{one.valid_without:.3f} → {one.valid_with:.3f}",
            f"{min(one.controls):.3f} to {max(one.controls):.3f}" if one.controls else "–", f"{one.p:.3f}",
        )
        for arm in study.arms
        for one in arm.interventions
    ]  # fmt: skip
    columns = (
        "",
        "codes of another",
        "put in at",
        "JSD",
        "floor",
        "valid there",
        "random codes",
        "p",
    )
    print_grid("Codes of another state put in at the last token (JSD: 1 is nothing done)", columns, rows)
    print_facts("", {}, as_json=False, shown={"page": page.resolve().as_uri()})
