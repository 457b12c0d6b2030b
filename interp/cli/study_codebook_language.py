"""`interp study codebook-language`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts, print_grid
from interp.codebooks.inspected import Inspection
from interp.codebooks.language_results import (
    COLUMNS,
    COST_COLUMNS,
    STEERED_COLUMNS,
    CodebookLanguage,
    cost_row,
    spanned,
)
from interp.recording import progress_of_stages
from interp.storage import write_text
from interp.studies.codebook_language import CodebookLanguageConfig, arm_name, inspected_folder, run_codebook_language
from interp.studies.codebook_language_inspection import inspection_path

_EXAMPLES = """\b
Examples:
  interp study codebook-language                             the embedded model
  interp study codebook-language --model ./stories260K --dataset stories.jsonl --rows joined --context-size 256 \\
      --lr 5e-4 --seeds 2 --out runs/stories_codes
  interp study codebook-language --size tiny --k 2,1 --out runs/codes_tiny --json
"""


@click.command("codebook-language", cls=ConfigCommand, epilog=_EXAMPLES)
@config_options(CodebookLanguageConfig)
@json_option
def command(as_json: bool, **flags: Any) -> None:
    """What do codebooks cost a language model, and what are their codes good for?

    The model is finetuned with a codebook at every head, and without, on the same text for as long: held-out loss and
    accuracy of both, and of the model before. Of each arm 30 codes are drawn by seed and shown, with how well what is
    shown tells where they are active elsewhere, beside 30 neurons that fire as often. Then every code of a word is
    activated while the model writes: success, perplexity and divergence, beside random codes as frequent. Writes
    codebook_language.json, codebook_language.html and a run folder for each arm.
    """
    config = CodebookLanguageConfig.load(None, overrides_from(CodebookLanguageConfig, flags))
    with progress_of_stages() as tell:
        study = run_codebook_language(config, on_progress=tell)
    study.save(config.out / "codebook_language.json")
    page = _write_page(config, study)
    if as_json:
        print_facts("", study.to_json(), as_json=True)
    else:
        _print(study, page)


def _write_page(config: CodebookLanguageConfig, study: CodebookLanguage) -> Path:
    # Plotly is slow to import, and all that comes before does without it.
    from dashboards.codebook_language_view import codebook_language_page

    folders = {k: inspected_folder(config, k, config.seed) for k in config.k}
    inspected = {arm_name(k): Inspection.load(inspection_path(folder)) for k, folder in folders.items()}
    page = config.out / "codebook_language.html"
    write_text(page, codebook_language_page(study, inspected))
    return page


def _print(study: CodebookLanguage, page: Path) -> None:
    print_grid(f"{study.model} on held-out text", COLUMNS, study.rows())
    rows = [
        (one.arm, *(spanned(*found, 3) for found in (one.median("codes"), one.median("neurons"), one.difference())))
        for one in study.samples
    ]
    columns = ("", "codes", "neurons", "difference")
    print_grid("Detection AUC of drawn codes and neurons, medians with 95% intervals over them", columns, rows)
    print_grid("Steered by all codes of a word", STEERED_COLUMNS, study.steered_rows())
    print_grid("Its cost, and how near it comes (JSD: 1 is nothing done)", COST_COLUMNS, map(cost_row, study.steerings))
    print_facts("", {}, as_json=False, shown={"page": page.resolve().as_uri()})
