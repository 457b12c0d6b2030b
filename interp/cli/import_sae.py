"""`interp import`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.output import json_option, print_facts
from interp.cli.sae_options import said_of_the_sae
from saes.importing import import_sae

_EXAMPLES = """\b
Examples:
  interp import google/gemma-scope-2b-pt-res layer_12/width_16k/average_l0_82 --dataset texts.jsonl --out runs/gemma
  interp import downloads/ae_folder --dataset texts.jsonl --out runs/theirs --model gpt2
  interp import resid_post_mlp_v5_32k/autoencoders/8.pt --dataset roneneldan/TinyStories --out runs/openai
"""


@click.command("import", epilog=_EXAMPLES)
@click.argument("source", metavar="SAE")
@click.argument("sae_id", metavar="[ID]", required=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder to write.")
@click.option("--dataset", default="embedded", show_default=True, help="Text to look at the SAE on.")
@click.option("--model", "model_name", help="The model it was trained on, where its files do not say or it has moved.")
@said_of_the_sae
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@json_option
def command(source: str, sae_id: str | None, as_json: bool, **options: Any) -> None:
    """Make a run folder of an SAE that others trained, for `interp evaluate`, `features` and `report`.

    SAE is a folder, a file or a hub repository (ID is then the folder in it), of SAELens in any version, sparsify,
    dictionary_learning, Gemma Scope, Llama Scope or OpenAI. With HF_HUB_OFFLINE set, only the hub's cache is read.
    Nothing in a file is run: pickled objects are refused.
    """
    run = import_sae(source, sae_id, **options)
    manifest = run.manifest()
    facts = {"run": str(run.path), "sae": str(run.sae), "model": manifest.model["name"], **manifest.results}
    print_facts(f"Imported {run.name}", facts, as_json=as_json)
