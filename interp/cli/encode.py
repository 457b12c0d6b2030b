"""`interp encode`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from interp.cli.output import json_option, print_facts
from interp.cli.sae_options import said_of_the_sae
from interp.errors import ConfigError
from interp.texts import STANDARD_INPUT, open_texts
from saes.encoded_parquet import encode_file
from saes.opening import open_sae

_EXAMPLES = """\b
Examples:
  interp encode runs/quickstart --texts stories.txt                  a document per line
  interp encode runs/quickstart/sae --texts books --unit file        a document per .txt file of a folder
  interp encode runs/quickstart --texts reviews.jsonl --text-field body --features 1,5,9 --out codes.parquet
  grep -i dragon stories.txt | interp encode runs/quickstart --texts - --out dragons.parquet --json
"""


@click.command("encode", epilog=_EXAMPLES)
@click.argument("sae_source", metavar="SAE")
@click.option(
    "--texts", "texts_name", required=True, metavar="FILE", help="Text file, folder, or - for standard input."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write; by default <name of the texts>.features.parquet."
)
@click.option("--overwrite", is_flag=True, help="Replace --out if it is there.")
@click.option("--features", metavar="N,N,…", help="Keep only these features; by default all.")
@click.option(
    "--unit",
    type=click.Choice(["line", "paragraph", "file"]),
    default="line",
    show_default=True,
    help="What one document is in plain text.",
)
@click.option("--text-field", default="text", show_default=True, help="Field that holds the text (jsonl, parquet).")
@click.option("--sae-id", metavar="ID", help="Which SAE of a hub repository, or of a folder of many.")
@click.option("--model", "model_name", help="The SAE's model if it has moved; its content must be the same.")
@said_of_the_sae
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda (cuda:1 for the second GPU).")
@json_option
def command(
    sae_source: str,
    texts_name: str,
    out: Path | None,
    overwrite: bool,
    features: str | None,
    unit: str,
    text_field: str,
    sae_id: str | None,
    model_name: str | None,
    device: str,
    as_json: bool,
    **said: Any,
) -> None:
    """Write which features of a trained SAE fire on which token of your own texts, as a sparse Parquet file.

    SAE is a run folder, a folder or file that holds an SAE of any known format, or a hub repository. The Parquet file
    has one row per active feature of a token: document, position, token (its id), feature, activation. Tokens that the
    SAE was not trained on (BOS, special ones) are left out. Memory does not grow with the texts.
    """
    wanted = None if features is None else _feature_ids(features)
    texts = open_texts(texts_name, unit=unit, text_field=text_field)  # type: ignore[arg-type]
    opened = open_sae(sae_source, sae_id, model_name=model_name, device=device, **said)
    done = encode_file(opened, texts, out or _default_out(texts_name), features=wanted, overwrite=overwrite)
    print_facts("Encoded", {**asdict(done), "path": str(done.path)}, as_json=as_json)


def _default_out(texts_name: str) -> Path:
    """Named after the texts, and never as they are."""
    if texts_name == STANDARD_INPUT:
        return Path("stdin.features.parquet")
    stem = Path(texts_name).resolve().name.lstrip(".").split(".")[0]
    return Path(f"{stem or 'texts'}.features.parquet")


def _feature_ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--features: got {text!r}; expected feature numbers such as 1,5,9") from None
