"""`interp patch`."""

from functools import partial
from pathlib import Path

import click

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
from interp.components import Kind, block_components, parse_component
from interp.effects import EffectGrid
from interp.errors import ConfigError
from interp.models import Model
from interp.outcomes import OUTCOMES, kl_from
from interp.patching import patch_sweep
from interp.path_patching import OUTPUT, path_patching
from interp.prompt_files import pairs_of, read_pairs
from interp.prompts import PromptPairs
from interp.recording import progress_of_stages
from interp.storage import make_folder
from interp.sweep_cells import every_position
from interp.sweep_passes import Judge
from interp.two_runs import DIRECTIONS, Direction

_EXAMPLES = """\b
Examples:
  interp patch --clean "Lily was sad because" --corrupt "Tom was sad because" --answer " she" --foil " he"
  interp patch pairs.jsonl --direction both --out patched         a page with heat maps of both directions
  interp patch pairs.jsonl --components head --outcome kl --json
  interp patch pairs.jsonl --sae runs/quickstart                  features of an SAE, its error kept
  interp patch pairs.jsonl --through output,blocks.3.attn.hook_v.1   path patching, through these
A line of pairs.jsonl: {"clean": "…", "corrupt": "…", "answer": " she", "foil": " he", "cluster": "template 3"}
"""
_JUDGES: dict[str, Judge] = {**OUTCOMES, "kl": kl_from}


@click.command("patch", epilog=_EXAMPLES)
@click.argument("pairs_file", metavar="[PAIRS]", required=False, type=click.Path(path_type=Path))
@click.option("--clean", help="The prompt that has the answer.")
@click.option("--corrupt", help="Its counterpart of as many tokens, which has the foil.")
@click.option("--answer", help="What follows the clean prompt: one token, mostly with a space before it.")
@click.option("--foil", help="What follows the corrupt prompt.")
@click.option(
    "--direction",
    type=click.Choice([*DIRECTIONS, "both"]),
    default="denoising",
    show_default=True,
    help="Clean activations into the corrupt pass (denoising), corrupt into the clean (noising), or both, apart.",
)
@click.option("--outcome", type=click.Choice(list(_JUDGES)), default="logit-difference", show_default=True,
              help="What is measured; kl is from the clean pass.")  # fmt: skip
@click.option("--components", type=Components(), default=("residual", "attention", "mlp", "head"),
              help="residual, attention, mlp, head, neuron; by default all but neurons.")  # fmt: skip
@click.option("--through", metavar="PART,…", help="Path patching: from attention, MLPs and heads through these alone: "
              "output, or a hook, or a head of one such as blocks.3.attn.hook_q.1.")  # fmt: skip
@sweep_options
def command(
    pairs_file: Path | None,
    direction: str,
    outcome: str,
    components: tuple[str, ...],
    through: str | None,
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
    **one: str | None,
) -> None:
    """Patch activations of one prompt into the pass of another: layer × position × component, heads, features.

    Give one pair, or a file of pairs. An effect is the share of the clean-corrupt difference that a patch brings back
    (denoising) or takes away (noising): 1 all of it, 0 none. Intervals resample clusters of pairs.
    """
    if features is not None:
        refuse_given("--features", "n_features")
    wanted, chosen_layers = numbers_in(features, "--features"), numbers_in(layers, "--layers")
    model, dictionaries = opened(model_name, sae_source, features, device)
    pairs = _pairs(model, pairs_file, one, add_bos=not no_bos)
    if through is not None:
        refuse_given("--through", "components", "sae_source", "features", "n_features")
        grids = _paths(model, pairs, through, chosen_layers, direction, _JUDGES[outcome], rows=rows, seed=seed, out=out)
        deliver(grids, title="Path patching", told=_told(model, pairs, _PATHS), prompts=_shown(pairs), out=out,
                as_json=as_json)  # fmt: skip
        return
    chosen = chosen_features(model, pairs, dictionaries, wanted, n_features)
    cells = cells_of(model, components, chosen_layers, every_position(model, pairs), dictionaries, chosen)
    if out is not None:
        make_folder(out)
    grids = {}
    with progress_of_stages() as tell:
        for way in _ways(direction):
            for name, grid in cells.items():
                stage = f"{way}: {name}"
                grids[stage] = patch_sweep(
                    model, pairs, grid, direction=way, outcome=_JUDGES[outcome], dictionaries=dictionaries,
                    rows_per_pass=rows, seed=seed,
                    on_progress=lambda done, total, stage=stage: tell(stage, done, total),  # type: ignore[misc]
                )  # fmt: skip
    deliver(
        grids,
        title="Activation patching",
        told=_told(model, pairs, _TOLD),
        prompts=_shown(pairs),
        out=out,
        as_json=as_json,
    )


_TOLD = (
    "An effect is the share of the clean-corrupt difference that one patched component brings back (denoising: clean "
    "activations in the corrupt pass) or takes away (noising: corrupt ones in the clean pass), as a ratio of means."
)


_PATHS = (
    "An effect is the share of the clean-corrupt difference that one component carries through one receiver alone: "
    "what lies between is held at what it was."
)


def _told(model: Model, pairs: PromptPairs, what: str) -> str:
    count = f"{len(pairs)} pairs" if len(pairs) > 1 else "one pair"
    return f"{model.name}, {count} of prompts. {what}"


def _ways(direction: str) -> tuple[Direction, ...]:
    return DIRECTIONS if direction == "both" else (direction,)  # type: ignore[return-value]


def _paths(
    model: Model,
    pairs: PromptPairs,
    through: str,
    layers: list[int] | None,
    direction: str,
    judge: Judge,
    *,
    rows: int,
    seed: int,
    out: Path | None,
) -> dict[str, EffectGrid]:
    """Attention, MLPs and heads of the blocks as senders, to each receiver."""
    named = [part.strip() for part in through.split(",") if part.strip()]
    receivers = [None if part == OUTPUT else parse_component(model, part) for part in dict.fromkeys(named)]
    kinds: tuple[Kind, ...] = ("attention", "mlp", "head")
    senders = [part for kind in kinds for part in block_components(model, kind, layers=layers)]
    if out is not None:
        make_folder(out)
    with progress_of_stages() as tell:
        grids = {}
        for way in _ways(direction):
            grids[f"{way}: paths"] = path_patching(
                model, pairs, senders, receivers, direction=way, outcome=judge, rows_per_pass=rows, seed=seed,
                on_progress=partial(tell, f"{way}: paths"),
            )  # fmt: skip
    return grids


def _pairs(model: Model, path: Path | None, one: dict[str, str | None], *, add_bos: bool) -> PromptPairs:
    given = {name: text for name, text in one.items() if text is not None}
    if (path is None) == (not given):
        raise ConfigError("expected a file of pairs, or --clean, --corrupt, --answer and --foil; give one of the two")
    if path is not None:
        return read_pairs(model, path, add_bos=add_bos)
    if missing := [name for name in ("clean", "corrupt", "answer") if name not in given]:
        raise ConfigError(f"--{missing[0]}: missing; a pair is --clean, --corrupt, --answer and --foil")
    return pairs_of(model, [given], add_bos=add_bos)


def _shown(pairs: PromptPairs, most: int = 20) -> list[str]:
    both = zip(pairs.clean.texts[:most], pairs.corrupt.texts[:most], strict=True)
    return [f"{clean}  |  {corrupt}" for clean, corrupt in both]
