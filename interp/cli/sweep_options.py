"""What `interp patch` and `interp ablate` share: which components, which dictionary, what is printed and written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from dashboards.effects_page import write_effects_page
from interp.cli.evaluate import COUNT
from interp.cli.output import json_option, print_facts, print_grid, print_page
from interp.component_values import Dictionaries, strongest_features
from interp.effects import EffectGrid
from interp.errors import ConfigError
from interp.models import Model, load_model
from interp.prompts import PromptPairs, Prompts
from interp.storage import make_folder, write_json
from interp.sweep_cells import ALL_TOKENS, WHOLE, Cells, Places, block_cells, feature_cells, part_cells
from saes.opening import open_sae

F = TypeVar("F", bound=Callable[..., Any])
PARTS = ("head", "neuron")
N_PRINTED = 12


class Components(click.ParamType[tuple[str, ...]]):
    """Kinds of components, comma separated."""

    name = "KIND,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        kinds = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if unknown := [kind for kind in kinds if kind not in (*WHOLE, *PARTS)]:
            self.fail(f"got {unknown[0]!r}; expected some of {', '.join((*WHOLE, *PARTS))}", param, ctx)
        return kinds


def sweep_options(function: F) -> F:
    """Options of every sweep."""
    options = [
        click.option("--model", "model_name", default="embedded", show_default=True, help="Folder or hub name."),
        click.option("--layers", metavar="N,N,…", help="Blocks to go through; by default all."),
        click.option("--sae", "sae_source", metavar="SAE", help="Features of this SAE too: run, folder, hub name."),
        click.option("--features", metavar="N,N,…", help="Which features; by default those most active here."),
        click.option("--n-features", default=20, show_default=True, type=COUNT, help="How many, by default."),
        click.option("--no-bos", is_flag=True, help="Do not put a beginning-of-sequence token before prompts."),
        click.option("--rows", default=64, show_default=True, type=COUNT, help="Rows of a forward pass."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Seed of draws."),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU)."
        ),
        click.option("--out", type=click.Path(path_type=Path), help="Folder for effects.json and page.html."),
        json_option,
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def refuse_given(option: str, *others: str) -> None:
    """Raises: ConfigError if one of the parameters was given, which `option` leaves no use for."""
    context = click.get_current_context()
    for name in others:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            flag = next(p.opts[0] for p in context.command.params if p.name == name)
            raise ConfigError(f"{flag}: got it with {option}, which makes no use of it; leave one of the two out")


def opened(model_name: str, sae_source: str | None, features: str | None, device: str) -> tuple[Model, Dictionaries]:
    """The model, and the SAE on it by its hook.

    Raises: ConfigError for features without an SAE; what opening them raises.
    """
    if sae_source is None:
        if features is not None:
            raise ConfigError("--features: got features and no SAE that they are of; give it with --sae")
        return load_model(model_name, device=device), {}
    found = open_sae(sae_source, model_name=None if model_name == "embedded" else model_name, device=device)
    return found.model, {found.sae.hooks_out[0]: found.sae}


def numbers_in(text: str | None, option: str) -> list[int] | None:
    """Numbers such as 1,5,9, each once.

    Raises: ConfigError.
    """
    try:
        return None if text is None else list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"{option}: got {text!r}; expected numbers such as 1,5,9") from None


def cells_of(
    model: Model,
    kinds: Sequence[str],
    layers: Sequence[int] | None,
    places: Places,
    dictionaries: Dictionaries,
    features: Mapping[str, Sequence[int]],
) -> dict[str, Cells]:
    """A grid for the whole-block kinds, one for heads and one for neurons over all tokens, one for each dictionary.

    Raises: ConfigError where that is none.
    """
    if not kinds and not dictionaries:
        raise ConfigError(f"--components: got none; expected some of {', '.join((*WHOLE, *PARTS))}, or --sae")
    cells: dict[str, Cells] = {}
    if whole := [kind for kind in WHOLE if kind in kinds]:
        cells[", ".join(whole)] = block_cells(model, whole, layers=layers, places=places)
    for kind in PARTS:
        if kind in kinds:
            cells[f"{kind}s"] = part_cells(model, kind, layers=layers)  # type: ignore[arg-type]
    for hook in dictionaries:
        chosen = features[hook]
        cells[f"features at {hook}"] = feature_cells(hook, chosen, places=places if len(chosen) < 64 else ALL_TOKENS)
    return cells


def chosen_features(
    model: Model, sides: PromptPairs | Prompts, dictionaries: Dictionaries, given: Sequence[int] | None, n: int
) -> dict[str, Sequence[int]]:
    """The features asked for, or those that differ most between the sides, or sum to most over the prompts."""
    if given is not None:
        return dict.fromkeys(dictionaries, given)
    return {hook: strongest_features(model, sides, hook, held, n) for hook, held in dictionaries.items()}


def deliver(
    grids: Mapping[str, EffectGrid], *, title: str, told: str, prompts: Sequence[str], out: Path | None, as_json: bool
) -> None:
    """Write the folder, and print the strongest effects of each grid or everything as JSON."""
    held = {"grids": {name: grid.to_json() for name, grid in grids.items()}}
    if out is not None:
        write_json(make_folder(out) / "effects.json", held)
        write_effects_page(grids, out / "page.html", title=title, told=told, prompts=prompts)
    if as_json:
        print_facts("", held, as_json=True)
        return
    for name, grid in grids.items():
        rows = [
            (*labels, f"{effect:+.4f}", _interval(between)) for labels, effect, between in grid.strongest(N_PRINTED)
        ]
        means = ", ".join(f"{side} {value:+.4g}" for side, value in grid.reference.items())
        # A table's own title is broken to its width.
        print(f"{name}: {grid.method}, {grid.outcome}; {means}; {grid.n_prompts} prompts")
        print_grid("", (*(axis.name for axis in grid.axes), "effect", "95% interval"), rows)
    if out is not None:
        print_page(out / "page.html")


def _interval(between: tuple[float, float] | None) -> str:
    return "one cluster" if between is None else f"{between[0]:+.4f} to {between[1]:+.4f}"
