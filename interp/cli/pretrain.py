"""`interp pretrain`."""

from pathlib import Path
from typing import Any

import click

from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.pretraining.config import PretrainConfig
from interp.pretraining.evaluation import MODEL
from interp.pretraining.training import PretrainFolder, pretrain
from interp.storage import read_json

_EXAMPLES = """\b
Examples:
  interp pretrain configs/pretrain_embedded.yaml --out runs/embedded
  interp pretrain configs/pretrain_embedded.yaml --out runs/embedded --resume
  interp pretrain --dataset stories.jsonl --tokens 2M --architecture.n-layers 2 --out runs/small
"""


@click.command("pretrain", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(PretrainConfig)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint if there is one.")
@json_option
def command(config_file: Path | None, resume: bool, as_json: bool, **flags: Any) -> None:
    """Train a small language model from scratch.

    Settings come from the YAML file CONFIG, then from flags. The run folder holds the model in Hugging Face layout, so
    that --model FOLDER/model takes it everywhere.
    """
    config = PretrainConfig.load(config_file, overrides_from(PretrainConfig, flags))
    run = pretrain(config, resume=resume)
    evaluation = read_json(run.evaluation_path)
    facts = {
        "folder": str(run.path),
        "model": str(PretrainFolder(run).model),
        "parameters": run.manifest().results["n_parameters"],
        "heldout_bits_per_byte": evaluation["heldout"][MODEL],
        "train_bits_per_byte": evaluation["train"][MODEL],
        **{f"{name}_bits_per_byte": bits for name, bits in evaluation["heldout"].items() if name != MODEL},
    }
    print_facts("Language model", facts, as_json=as_json)
