"""`interp ablate`."""

from pathlib import Path

import click

from interp.ablation import ablation_sweep
from interp.cli.evaluate import COUNT
from interp.cli.sweep_options import (
    Components,
    cells_of,
    chosen_features,
    deliver,
    numbers_in,
    opened,
    refuse_given,
    sweep_options,
)
from interp.components import Component
from interp.directions import Direction
from interp.effects import EffectGrid
from interp.errors import ConfigError
from interp.interventions import Directional, Intervention, Mean, Resample, Zero
from interp.models import Model
from interp.outcomes import OUTCOMES, kl_from, turned_from
from interp.prompt_files import last_held_out, read_prompts
from interp.prompts import Prompts
from interp.recording import progress_of_stages
from interp.storage import make_folder
from interp.sweep_cells import ALL_TOKENS, Cells, Places, every_position, listed_cells
from interp.sweep_passes import Judge

_EXAMPLES = """\b
Examples:
  interp ablate stories.txt                                         heads, attention, MLPs; change of the KL divergence
  interp ablate prompts.jsonl --outcome logit-difference --how zero --by-position
  interp ablate reviews.txt --outcome cross-entropy --out ablated   each text's last token is what is predicted
  interp ablate stories.txt --sae runs/quickstart --features 3,17   features of an SAE, its error kept
  interp ablate stories.txt --direction probe.json                  a direction projected out, at its own hook
A line of prompts.jsonl: {"text": "…", "answer": " she", "foil": " he", "cluster": "document 3"}
"""
_JUDGES: dict[str, Judge] = {**OUTCOMES, "kl": kl_from, "turn": turned_from}
HOWS = ("zero", "mean", "position-mean", "resample")


@click.command("ablate", epilog=_EXAMPLES)
@click.argument("prompts_file", metavar="PROMPTS")
@click.option(
    "--how",
    type=click.Choice(HOWS),
    default="mean",
    show_default=True,
    help="What stands in a component's place: nothing, a mean of the reference, or another prompt's values.",
)
@click.option("--direction", "direction_file", type=click.Path(path_type=Path),
              help="File of a direction, as `interp steer` takes it; all else stays.")  # fmt: skip
@click.option("--value", type=float, default=0.0, show_default=True,
              help="What the coordinate along --direction is set to; 0 projects it out.")  # fmt: skip
@click.option("--reference", metavar="FILE", help="Texts for means and resampling; by default the prompts themselves.")
@click.option(
    "--outcome",
    type=click.Choice(list(_JUDGES)),
    help="What is measured: by default kl from the model left alone, or for an encoder turn, 1 - cosine.",
)
@click.option("--components", type=Components(), default=("attention", "mlp", "head"), show_default=False,
              help="residual, attention, mlp, head, neuron; attention, mlp and head by default.")  # fmt: skip
@click.option("--by-position", is_flag=True, help="Each token position apart, where the kind has few components.")
@click.option("--prompts", "n_prompts", default=100, show_default=True, type=COUNT, help="Read at most so many.")
@sweep_options
def command(
    prompts_file: str,
    how: str,
    direction_file: Path | None,
    value: float,
    reference: str | None,
    outcome: str | None,
    components: tuple[str, ...],
    by_position: bool,
    n_prompts: int,
    model_name: str,
    layers: str | None,
    sae_source: str | None,
    features: str | None,
    n_features: int,
    no_bos: bool,
    rows: int,
    seed: int,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Take components out, one at a time, and measure how the outcome at each prompt's last token changes.

    PROMPTS are lines of text, or JSON lines with answers. Intervals resample clusters of prompts (each prompt is its
    own where none are named). Works on encoders too.
    """
    if direction_file is None:
        refuse_given("no --direction", "value")
    else:
        refuse_given("--direction", "how", "reference", "components", "layers", "sae_source", "features", "n_features")
    if features is not None:
        refuse_given("--features", "n_features")
    wanted, chosen_layers = numbers_in(features, "--features"), numbers_in(layers, "--layers")
    model, dictionaries = opened(model_name, sae_source, features, device)
    judge = outcome or ("kl" if model.causal else "turn")
    prompts = _asked(model, read_prompts(model, prompts_file, n=n_prompts, add_bos=not no_bos), judge)
    others = prompts if reference is None else read_prompts(model, reference, n=n_prompts, add_bos=not no_bos)
    places = every_position(model, prompts) if by_position else ALL_TOKENS
    way: Intervention
    if direction_file is not None:
        direction = Direction.load(direction_file)
        direction.check_fits(model)
        way, cells = Directional(direction.vector, value), {direction.name: _along(direction, places)}
    else:
        chosen = chosen_features(model, prompts, dictionaries, wanted, n_features)
        way = _intervention(how, others, seed)
        cells = cells_of(model, components, chosen_layers, places, dictionaries, chosen)
    if out is not None:
        make_folder(out)
    grids: dict[str, EffectGrid] = {}
    with progress_of_stages() as tell:
        for name, grid in cells.items():
            grids[name] = ablation_sweep(
                model, prompts, grid, way, outcome=_JUDGES[judge],
                dictionaries=dictionaries, rows_per_pass=rows, seed=seed,
                on_progress=lambda done, total, name=name: tell(name, done, total),  # type: ignore[misc]
            )  # fmt: skip
    told = f"{model.name}, {len(prompts)} prompts; {way.name}, one component at a time. {_TOLD}"
    deliver(grids, title="Ablation", told=told, prompts=prompts.texts[:20], out=out, as_json=as_json)


_TOLD = (
    "An effect is the mean change of the outcome at each prompt's last token; intervals resample clusters of prompts."
)


def _along(direction: Direction, places: Places) -> Cells:
    """The direction's hook at each place."""
    return listed_cells([Component("residual", direction.hook, position=place) for place in places.positions])


def _intervention(how: str, reference: Prompts, seed: int) -> Intervention:
    if how == "zero":
        return Zero()
    return Resample(reference, seed) if how == "resample" else Mean(reference, by_position=how == "position-mean")


def _asked(model: Model, prompts: Prompts, judge: str) -> Prompts:
    """Where an answer is needed and none is given, each text's last token is.

    Raises: ConfigError for logits of a model that has none.
    """
    if judge == "turn":
        return prompts
    if not model.causal:
        raise ConfigError(f"--outcome: got {judge} for {model.name}, an encoder, which has no logits; use turn")
    return last_held_out(prompts) if judge in ("cross-entropy", "probability") and prompts.answers is None else prompts
