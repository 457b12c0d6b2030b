"""`interp attribute`."""

from pathlib import Path

import click

from dashboards.attribution_page import write_attribution_page
from interp.attribution_check import SUMMARY, AttributionCheck, check_attribution
from interp.cli.output import json_option, print_facts, print_grid, print_page
from interp.components import Component, Kind, block_components
from interp.errors import ConfigError
from interp.example_pairs import pronoun_pairs
from interp.models import Model, load_model
from interp.outcomes import OUTCOMES
from interp.prompt_files import read_pairs
from interp.prompts import PromptPairs
from interp.recording import progress_of_stages
from interp.storage import make_folder, write_json
from interp.two_runs import DIRECTIONS, Direction

_EXAMPLES = """\b
Examples:
  interp attribute                                  the embedded model, he or she after a name, both directions
  interp attribute pairs.jsonl --components head,neuron --direction noising --out attribution
  interp attribute pairs.jsonl --model gpt2 --steps 5 --json
"""
_KINDS: dict[str, Kind] = {"residual": "residual", "attention": "attention", "mlp": "mlp", "head": "head"}
_KINDS["neuron"] = "neuron"


@click.command("attribute", epilog=_EXAMPLES)
@click.argument("pairs_file", metavar="[PAIRS]", required=False, type=click.Path(path_type=Path))
@click.option("--model", "model_name", default="embedded", show_default=True, help="Folder or hub name.")
@click.option(
    "--components", default="residual,mlp,head", show_default=True, help=f"Kinds, comma separated: {', '.join(_KINDS)}."
)
@click.option(
    "--direction",
    type=click.Choice([*DIRECTIONS, "both"]),
    default="both",
    show_default=True,
    help="Clean activations into the corrupt pass (denoising), corrupt into the clean (noising), or both, apart.",
)
@click.option(
    "--outcome",
    type=click.Choice(list(OUTCOMES)),
    default="logit-difference",
    show_default=True,
    help="What is judged.",
)
@click.option(
    "--steps", "n_steps", type=click.IntRange(1), help="Integrate gradients along the input in so many steps."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for attribution.json and attribution.html.")
@json_option
def command(
    pairs_file: Path | None,
    model_name: str,
    components: str,
    direction: str,
    outcome: str,
    n_steps: int | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """How well one backward pass foretells patching: every component's effect estimated, then measured.

    Residual streams are taken token by token, the others over all tokens. The two directions are estimated apart, each
    by the gradient of its own run. PAIRS is a file as `interp patch` reads it; he or she after a name without one.
    """
    kinds = _kinds(components)
    model = load_model(model_name, device=device)
    pairs = pronoun_pairs(model).train if pairs_file is None else read_pairs(model, pairs_file)
    if out is not None:
        make_folder(out)
    directions = DIRECTIONS if direction == "both" else tuple(one for one in DIRECTIONS if one == direction)
    checks = []
    with progress_of_stages() as tell:
        for done, (kind, one) in enumerate([(kind, one) for kind in kinds for one in directions], start=1):
            checks.append(_check(model, pairs, kind, one, outcome, n_steps))
            tell("attribute", done, len(kinds) * len(directions))
    facts = {"checks": [check.to_json() for check in checks]}
    if out is not None:
        write_json(out / "attribution.json", facts)
        write_attribution_page(checks, out / "attribution.html")
    if as_json:
        print_facts("", facts, as_json=True)
        return
    title = f"Attribution against patching, {len(pairs)} pairs, {model.name}"
    print_grid(title, SUMMARY, [check.summary() for check in checks])
    if out is not None:
        print_page(out / "attribution.html")


def _kinds(named: str) -> list[Kind]:
    names = [part.strip() for part in named.split(",") if part.strip()]
    if unknown := [name for name in names if name not in _KINDS]:
        raise ConfigError(f"components: got {unknown[0]!r}; expected some of {', '.join(_KINDS)}")
    if not names:
        raise ConfigError(f"components: got none; expected some of {', '.join(_KINDS)}")
    return [_KINDS[name] for name in dict.fromkeys(names)]


def _check(
    model: Model, pairs: PromptPairs, kind: Kind, direction: Direction, outcome: str, n_steps: int | None
) -> AttributionCheck:
    parts = block_components(model, kind)
    if kind == "residual":
        parts = [part.at(place) for part in parts for place in range(pairs.clean.token_ids.shape[1])]
    return check_attribution(
        model, pairs, _changing(parts, pairs), OUTCOMES[outcome], kind=kind, direction=direction, n_steps=n_steps
    )


def _changing(parts: list[Component], pairs: PromptPairs) -> list[Component]:
    """Without places where no pair differs yet: patching does nothing there."""
    differs = (pairs.clean.token_ids != pairs.corrupt.token_ids).any(0).cumsum(0) > 0
    return [part for part in parts if not isinstance(part.position, int) or bool(differs[part.position])]
