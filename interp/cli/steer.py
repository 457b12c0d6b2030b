"""`interp steer`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.evaluate import SEED
from interp.cli.output import json_option, print_facts, print_grid
from interp.errors import ConfigError
from interp.recording import progress_of_stages
from interp.runs import this_command
from interp.steering_results import DoseResponse, between, signed
from interp.storage import make_folder
from interp.studies.steer_run import STRENGTHS, SteeringPlace, SteerSettings, load_prompts, steer_run

_EXAMPLES = """\b
Examples:
  interp steer runs/quickstart --feature 12                                what the feature does when it is turned up
  interp steer runs/quickstart --feature 12 --prompts names.txt --answer " he" --foil " she" --out runs/steer
  interp steer runs/quickstart --toward happy.txt --away sad.txt           a mean difference of two sets of prompts
  interp steer --model gpt2 --direction probe.json --strengths -2,-1,0,1,2 --json

A direction file is JSON: {"hook": "blocks.2.hook_resid_post", "vector": [0.1, …]}, as Direction.save writes it.
"""


class _Strengths(click.ParamType[tuple[float, ...]]):
    name = "X,X,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"got {value!r}; expected numbers such as -1,0,1", param, ctx)


@click.command("steer", epilog=_EXAMPLES)
@click.argument("run_folder", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option("--feature", type=click.IntRange(min=0), help="Feature of RUN's SAE to steer along.")
@click.option("--direction", "file", type=click.Path(path_type=Path), help="File of a direction, as JSON.")
@click.option(
    "--toward", type=click.Path(path_type=Path), help="Prompts, one a line: their mean at the last token, less …"
)
@click.option("--away", type=click.Path(path_type=Path), help="… the mean of these, is the direction.")
@click.option("--hook", help="Hook of the mean difference; RUN's own by default.")
@click.option(
    "--prompts",
    "prompts_file",
    type=click.Path(path_type=Path),
    help="Prompts to judge by: lines of text, or .jsonl of text, answer, foil, cluster. Unset: held-out text, judged "
    "by the tokens that the direction raises most on other text.",
)
@click.option("--answer", help='Answer of prompts that name none, one token, such as " he".')
@click.option("--foil", help="What the answer is held against.")
@click.option(
    "--strengths",
    type=_Strengths(),
    default=STRENGTHS,
    help="Strengths, comma separated, in typical distances of the activations from their mean. "
    "[-1,-0.5,-0.25,0,0.25,0.5,1]",
)
@click.option("--raw", is_flag=True, help="Strengths in the direction's own units: a feature's in units of activation.")
@click.option("--position", help='Steer one place, "last" or a token\'s number, instead of all tokens but BOS.')
@click.option(
    "--controls",
    "n_controls",
    default=100,
    show_default=True,
    type=click.IntRange(min=2),
    help="Random directions of each kind to hold it against.",
)
@click.option(
    "--texts",
    "n_texts",
    default=2,
    show_default=True,
    type=click.IntRange(min=0),
    help="Prompts to go on with, steered and not.",
)
@click.option("--dataset", help="Other text than the run's own held-out split.")
@click.option("--model", "model_name", help="The run's model if it has moved, or the model to steer without RUN.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of controls and samples.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for steering.json and steering.html.")
@json_option
def command(
    run_folder: Path | None,
    feature: int | None,
    file: Path | None,
    toward: Path | None,
    away: Path | None,
    hook: str | None,
    prompts_file: Path | None,
    answer: str | None,
    foil: str | None,
    position: str | None,
    dataset: str | None,
    model_name: str | None,
    out: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Steer a model along a direction: effect by strength, what it costs, and whether random directions do as much.

    The direction is a feature's decoder row, a file's (a probe's, say), or a mean difference. Beside it stand random
    directions of the same length: with the covariance of the activations and, for an SAE, other features' rows.
    KL and perplexity are measured on held-out text.
    """
    if prompts_file is None and (answer is not None or foil is not None):
        raise ConfigError("got --answer or --foil without --prompts; give the prompts that they answer")
    asked = SteerSettings(position=position, **settings)
    if out is not None:
        make_folder(out)
    place = SteeringPlace.of(run_folder, model_name=model_name, dataset=dataset)
    direction = place.direction(feature=feature, file=file, toward=toward, away=away, hook=hook)
    prompts = None if prompts_file is None else load_prompts(place.model, prompts_file, answer=answer, foil=foil)
    with progress_of_stages() as tell:
        result = steer_run(
            place,
            direction,
            asked,
            prompts=prompts,
            command=this_command(),
            on_progress=tell,
        )
    page = None if out is None else _write(result, out)
    if as_json:
        print_facts("", result.to_json(), as_json=True)
    else:
        _print(result, page)


def _write(result: DoseResponse, out: Path) -> Path:
    # Drawing is not needed to steer: a machine without plotly may leave it out.
    from dashboards.steering_page import write_steering_page

    result.save(out / "steering.json")
    return write_steering_page(result, out / "steering.html")


def _print(result: DoseResponse, page: Path | None) -> None:
    side = ("KL", "perplexity") if result.side_effects is not None else ()
    columns = ("strength", "effect", "95% interval", *(f"p, {arm.name}" for arm in result.arms), *side)
    print_grid(f"{result.direction} at {result.hook}: {result.outcome}", columns, result.rows())
    slope = float(result.slope.value)
    shown = {"slope": f"{slope:+.3f} a unit of strength ({between(result.slope)}), of length {result.norm:.3g}"}
    for arm in result.arms:
        shown[f"against {arm.effects.shape[0]} {arm.name}"] = f"p {arm.p_slope(slope):.3f}"
    if result.side_effects is not None:
        shown["perplexity unsteered"] = f"{result.side_effects.unsteered_perplexity:.2f}"
    print_facts("", {}, as_json=False, shown=shown | ({"page": page.resolve().as_uri()} if page else {}))
    if result.texts:
        rows = [(signed(text.strength), f"{text.prompt[-40:]} […] {_one_line(text.text)}") for text in result.texts]
        print_grid("Texts, before and after", ("strength", ""), rows)


def _one_line(text: str) -> str:
    return text.replace("\n", "↵")[:80]
