"""`interp codebook steer`."""

import re
from pathlib import Path
from typing import Any

import click

from interp.cli.codebook_run import open_codes, provenance_of, record_of, texts_of
from interp.cli.output import json_option, print_facts, print_grid, print_page
from interp.codebooks.files import CodebookModel
from interp.codebooks.names import CodeName
from interp.codebooks.precision import halves
from interp.codebooks.record import CodeRecord
from interp.codebooks.search import expression_of
from interp.codebooks.steered import COLUMNS, CodeSteering
from interp.codebooks.steering import steer_codes
from interp.codebooks.toward import before_matches, mean_prediction, neutral_texts
from interp.datasets import open_stream
from interp.errors import ConfigError
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_text

_EXAMPLES = """\b
Examples:
  interp codebook steer runs/codes --codes 2.attn.1.731 "Once upon a time" --pattern dog
  interp codebook steer runs/codes --codes 2.attn.1.731,3.attn.0.12 "Once upon a time" --pattern dog --where generated
"""


@click.command("steer", epilog=_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option("--codes", required=True, help="Codes to activate, such as 2.attn.1.731, separated by commas.")
@click.option("--pattern", required=True, help="Regular expression that a text must match to count as a success.")
@click.option(
    "--where", default="all", show_default=True, help="all, prompt, generated, last, or positions from 0: 3,4,5."
)
@click.option("--texts", default=50, show_default=True, type=click.IntRange(min=1), help="Texts to write, each time.")
@click.option("--new-tokens", default=30, show_default=True, type=click.IntRange(min=1), help="Tokens of each.")
@click.option("--controls", default=100, show_default=True, type=click.IntRange(min=0), help="Sets of random codes.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of texts and controls.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write steering.json and steering.html into.")
@json_option
def command(
    run: Path,
    prompt: str,
    codes: str,
    pattern: str,
    where: str,
    texts: int,
    new_tokens: int,
    controls: int,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Activate codes while the model writes: success, perplexity and shift, beside random codes as frequent.

    `interp codebook inspect RUN` has to run first: how frequent codes are is asked of its record. A code that is not
    active already takes the place of the least similar one. Perplexity is what the model without steering gives to the
    texts. The shift is the Jensen-Shannon divergence of next-token predictions from those without the codes, in nats;
    the distance is that of predictions from the model's own directly before a match of the pattern, relative to that
    without the codes: no intervention is 1, and less is nearer.
    """
    held = open_codes(run)
    config = held.config
    record = record_of(held)
    names = [CodeName.parse(code, held.codebooks) for code in codes.split(",")]
    places = _where(where)
    expression = expression_of(pattern)
    stream = open_stream(config.dataset, held.model, config.data, split=config.data.judged_split)
    if out is not None:
        make_folder(out)
    with progress_of_stages() as tell:
        result = steer_codes(
            held.model,
            held.codebooks,
            record,
            names,
            prompt,
            pattern,
            neutral=neutral_texts(held, stream),
            where=places,
            n_texts=texts,
            new_tokens=new_tokens,
            n_controls=controls,
            seed=seed,
            target=_predictions_before(held, record, expression),
            provenance=provenance_of(held, seed),
            on_progress=lambda done, total: tell("random codes", done, total),
        )
    if out is not None:
        _write_steering(result, out)
    if as_json:
        print_facts("", result.to_json(), as_json=True)
    else:
        print_grid(f"{pattern!r} behind {prompt!r}, {texts} texts", COLUMNS, result.rows())
        print_grid("Texts", ("", ""), [("steered", text.replace("\n", "↵")) for text in result.texts[:4]])
        print_facts("", {}, as_json=False, shown=result.shown())
        if out is not None:
            print_page(out / "steering.html")


def _where(text: str) -> Any:
    if text in ("all", "prompt", "generated", "last"):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"where: got {text!r}; expected all, prompt, generated, last or positions such as 3,4,5"
        ) from None


def _predictions_before(held: CodebookModel, record: CodeRecord, expression: re.Pattern[str]) -> Any:
    """The model's own mean prediction directly before a match on odd documents of the record; None without any."""
    _, judge = halves(record)
    wanted = before_matches(record, expression, texts_of(held)) & judge
    if not wanted.any():
        return None
    source, config = record.source, held.config
    stream = open_stream(source["dataset"], held.model, config.data, split=source["split"])  # type: ignore[arg-type]
    return mean_prediction(held, stream, record, wanted)


def _write_steering(result: CodeSteering, out: Path) -> None:
    from dashboards.codebook_page import code_steering_page

    result.save(out / "steering.json")
    write_text(out / "steering.html", code_steering_page(result))
