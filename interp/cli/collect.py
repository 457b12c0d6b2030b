"""`interp collect`."""

from pathlib import Path
from typing import Any

import click

from interp.activations.collect import CollectConfig, collect
from interp.cli.options import ConfigCommand, config_options, overrides_from
from interp.cli.output import json_option, print_facts
from interp.distributed import opened_ranks
from interp.runs import RunFolder

_EXAMPLES = """\b
Examples:
  interp collect --hooks blocks.2.hook_resid_post --tokens 1M --out runs/acts
  interp collect --model ./pythia --dataset books.jsonl --hooks blocks.3.hook_resid_post,blocks.3.hook_mlp_out
  interp train configs/quickstart.yaml --activations runs/acts
  torchrun --nproc-per-node 4 -m interp collect --hooks blocks.2.hook_resid_post --out runs/acts
"""


@click.command("collect", cls=ConfigCommand, epilog=_EXAMPLES)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@config_options(CollectConfig)
@click.option("--resume", is_flag=True, help="Go on with the folder if it is there already.")
@json_option
def command(config_file: Path | None, resume: bool, as_json: bool, **flags: Any) -> None:
    """Write activations of one or several hooks to disk in one pass.

    Settings come from the YAML file CONFIG, then from flags. The folder holds safetensors shards in data order and a
    manifest with hashes; an interrupted run goes on with --resume. Under torchrun the processes run the model in turns,
    and the files are those of one process.
    """
    config = CollectConfig.load(config_file, overrides_from(CollectConfig, flags))
    with opened_ranks() as ranks:
        run = collect(config, resume=resume, ranks=ranks)
        if ranks.first:
            _tell(run, as_json=as_json)


def _tell(run: RunFolder, *, as_json: bool) -> None:
    results = run.manifest().results
    size = sum(path.stat().st_size for path in run.path.glob("shard_*"))
    facts = {
        "folder": str(run.path),
        "tokens": results["n_tokens"],
        "shards": len(results["shards"]),
        "hooks": results["hooks"],
        "bytes": size,
    }
    print_facts("Activations", facts, as_json=as_json)
