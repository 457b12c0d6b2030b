"""`interp causal-sweep`."""

from pathlib import Path

import click
import numpy as np

from interp.causal_sweep import CausalSweep, causal_sweep, model_response
from interp.cli.evaluate import COUNT
from interp.cli.output import json_option, print_facts, print_grid, print_page
from interp.cli.sweep_options import numbers_in, refuse_given
from interp.errors import ConfigError
from interp.example_pairs import pronoun_pairs
from interp.models import Model
from interp.outcomes import LOGIT_DIFFERENCE, PROBABILITY
from interp.prompts import Prompts
from interp.runs import this_command
from interp.storage import make_folder
from interp.studies.steer_run import load_prompts
from saes.opening import open_sae

_EXAMPLES = """\b
Examples:
  interp causal-sweep runs/quickstart                 he or she after a name, by the eight strongest features
  interp causal-sweep runs/quickstart --features 12,907 --prompts prompts.jsonl --out swept
  interp causal-sweep runs/quickstart --prompts names.txt --answer " he" --foil " she" --reach 30
A line of prompts.jsonl: {"text": "…", "answer": " he", "foil": " she", "cluster": "template 3"}
"""
_OUTCOMES = (LOGIT_DIFFERENCE, PROBABILITY)


@click.command("causal-sweep", epilog=_EXAMPLES)
@click.argument("sae_source", metavar="SAE")
@click.option("--features", metavar="N,N,…", help="Features to sweep; by default those strongest at the prompts' ends.")
@click.option("--n-features", default=8, show_default=True, type=COUNT, help="How many, by default.")
@click.option("--prompts", "prompts_file", type=click.Path(path_type=Path),
              help="Lines of text, or .jsonl of text, answer, foil, cluster. Unset: he or she.")  # fmt: skip
@click.option("--answer", help="Answer of prompts that name none, one token.")
@click.option("--foil", help="What the answer is held against.")
@click.option("--reach", default=12.5, show_default=True, type=click.FloatRange(min=0, min_open=True),
              help="Values go from minus this to this, in units of activation.")  # fmt: skip
@click.option("--n-values", default=40, show_default=True, type=click.IntRange(min=2), help="How many values.")
@click.option("--model", "model_name", help="The SAE's model if it has moved.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for sweep.json and sweep.html.")
@json_option
def command(
    sae_source: str,
    features: str | None,
    n_features: int,
    prompts_file: Path | None,
    answer: str | None,
    foil: str | None,
    reach: float,
    n_values: int,
    model_name: str | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Set one feature to values far beyond what occurs, the others as they are, and see what the outcomes do.

    The effect of a value is the mean outcome with it less that of the prompts left alone (ATE); the slope is the mean
    finite difference over all values. The feature is set at each prompt's last token, the SAE's error kept. Intervals
    resample clusters of prompts.
    """
    if prompts_file is None and (answer is not None or foil is not None):
        raise ConfigError("got --answer or --foil without --prompts; give the prompts that they answer")
    wanted = numbers_in(features, "--features")
    if wanted is not None:
        refuse_given("--features", "n_features")
    found = open_sae(sae_source, model_name=model_name, device=device)
    prompts = _prompts(found.model, prompts_file, answer, foil)
    own, respond = model_response(found.model, prompts, found.sae, _OUTCOMES)
    swept = own.mean(0).topk(min(n_features, own.shape[1])).indices.tolist() if wanted is None else wanted
    if out is not None:
        make_folder(out)
    result = causal_sweep(
        respond, own, swept=swept, values=np.linspace(-reach, reach, n_values).tolist(),
        clusters=prompts.clusters.numpy(), code_names=[f"feature {feature}" for feature in swept],
        outcome_names=[outcome.name for outcome in _OUTCOMES],
    )  # fmt: skip
    page = None if out is None else _write(result, out, f"{found.model.name} · {found.sae.hooks_out[0]}")
    if as_json:
        print_facts("", result.to_json(), as_json=True)
        return
    for index, outcome in enumerate(result.outcomes):
        title = f"{outcome}: slope over ±{reach:g}, {result.n_samples} prompts"
        print_grid(title, ("", "slope", "95% interval", "monotone"), result.rows(index))
    if page is not None:
        print_page(page)


def _prompts(model: Model, path: Path | None, answer: str | None, foil: str | None) -> Prompts:
    if path is None:
        return pronoun_pairs(model).heldout.clean
    return load_prompts(model, path, answer=answer, foil=foil)[0]


def _write(result: CausalSweep, out: Path, about: str) -> Path:
    # Drawing is not needed to sweep: a machine without plotly may leave it out.
    from dashboards.steering_page import write_causal_sweep_page

    result.save(out / "sweep.json")
    return write_causal_sweep_page(result, out / "sweep.html", about=about, command=this_command())
