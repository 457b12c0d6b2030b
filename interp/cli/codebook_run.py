"""What the commands on a run with codebooks share: the run, its record, what its tokens say, where it comes from."""

from pathlib import Path
from typing import Any

from interp.codebooks.files import CodebookModel, load_codebook_model
from interp.codebooks.record import CodeRecord
from interp.errors import ConfigError
from interp.runs import this_command


def open_codes(run: Path) -> CodebookModel:
    """Raises: ConfigError for a plain finetune; ArtifactError if it cannot be read."""
    held = load_codebook_model(run)
    if not held.codebooks.hooks:
        raise ConfigError(f"{run}: is a plain finetune without codebooks; give a run that has some")
    return held


def texts_of(held: CodebookModel) -> list[str]:
    """What each token id adds to a text."""
    # Plotly comes with it, which is slow to import.
    from dashboards.tokens import token_texts

    return token_texts(held.model.tokenizer)


def provenance_of(held: CodebookModel, seed: int) -> dict[str, Any]:
    """Where a result on this run comes from."""
    manifest = held.folder.run.manifest()
    return {
        "command": this_command(),
        "seed": seed,
        "base model": manifest.model.get("name"),
        "base model hash": manifest.model.get("content_hash"),
        "finetuned model hash": held.model.content_hash,
        "data": manifest.data.get("dataset"),
        "codebooks at": ", ".join(held.config.at),
        "codes, active at once": f"{held.config.n_codes}, {held.config.k}",
    }


def record_of(held: CodebookModel) -> CodeRecord:
    """The record of its codes.

    Raises: ConfigError if there is none yet; ArtifactError if it is damaged or of other weights.
    """
    path = held.folder.record_path
    if not path.exists():
        run = held.folder.run.path
        raise ConfigError(f"{run}: has no record of its codes yet; run `interp codebook inspect {run}` first")
    record = CodeRecord.load(path)
    record.check_model(held.model.content_hash, path)
    return record
