"""`interp study name-pronoun`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.recording import progress_of_stages
from interp.steering_results import between
from interp.storage import make_folder, write_text
from interp.studies.name_pronoun import NamePronounConfig, NamePronounStudy, run_name_pronoun

_EXAMPLES = """\b
Examples:
  interp study name-pronoun                                              the embedded model, about two minutes
  interp study name-pronoun --run runs/quickstart --out runs/pronouns    with an SAE that is there
  interp study name-pronoun --model ./stories260K --dataset stories.jsonl --hook blocks.2.hook_resid_post \\
      --names names.zip --out runs/stories_pronouns
"""


@click.command("name-pronoun", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(NamePronounConfig)
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """Which SAE features make a story go on with "he" after Tim and "she" after Lily?

    Features are chosen by attribution on training names and sentences, and judged on others: the logit difference of
    "he" and "she" without them, their error kept, and its dose-response along what they write on male names less what
    they write on female ones. Beside them random sets that fire as often and write as much, prompt by prompt. Writes
    name_pronoun.json and name_pronoun.html into --out; a finished SAE there is used again.
    """
    config = NamePronounConfig.load(None, overrides_from(NamePronounConfig, flags))
    make_folder(config.out)
    with progress_of_stages() as tell:
        study = run_name_pronoun(config, on_progress=tell)
    page = _write_page(study, config.out)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study, page)


def _write_page(study: NamePronounStudy, out: Path) -> Path:
    # Drawing is not needed to measure: a machine without plotly may leave it out.
    from dashboards.name_pronoun_view import name_pronoun_page

    page = out / "name_pronoun.html"
    write_text(page, name_pronoun_page(study.to_json()))
    return page


def _print(study: NamePronounStudy, page: Path) -> None:
    rows = [
        (
            f"{found.n_features}",
            f"{float(found.before.value):+.2f} ({between(found.before)})",
            f"{float(found.change.value):+.2f} ({between(found.change)})",
            f"{found.controls.mean():+.2f} (least {found.controls.min():+.2f})",
            f"{float(found.gap.value):+.2f} ({between(found.gap)})",
            f"{found.p:.3f}",
        )
        for found in study.ablations
    ]
    columns = ("features", "right pronoun, logits", "change without", "matched features", "paired difference", "p")
    print_grid(f"{study.model}, {study.hook}: features taken out, held-out names and sentences", columns, rows)
    dose = study.dose
    names = (f"p, {arm.name}" for arm in dose.arms)
    heads = ("strength", "he − she, change", "95% interval", *names, "KL", "perplexity")
    print_grid(f"Steered along {dose.direction}", heads, dose.rows())
    shown = {
        "accuracy": ", ".join(f"{side} {value:.1%}" for side, value in study.accuracy.items()),
        "features": ", ".join(map(str, study.features)),
        "page": page.resolve().as_uri(),
    }
    print_facts("", {}, as_json=False, shown=shown)
