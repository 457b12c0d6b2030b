"""What a study looks at of an arm: kept in the study's own folder, since looking at the arm again changes the arm's.

Axes: n tokens.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from interp.codebooks.files import CodebookModel
from interp.codebooks.inspected import Inspection, inspect_run
from interp.codebooks.record import CodeRecord
from interp.datasets import TokenStream
from interp.errors import ArtifactError
from interp.runs import this_command

_NEURONS = "neurons' model hash"
Tell = Callable[[str, int, int], None]


def inspection_path(folder: Path) -> Path:
    """The file of an arm's inspection."""
    return folder / "inspection.json"


def looked_at(
    folder: Path,
    arm: CodebookModel,
    plain: CodebookModel,
    stream: TokenStream,
    texts: Sequence[str],
    *,
    n_tokens: int,
    seed: int,
    on_progress: Tell | None = None,
) -> tuple[Inspection, CodeRecord]:
    """What is in the folder, or else a pass over the first tokens of the arm's own text, which `stream` reads too.

    Neurons are those of the finetune without codebooks.
    Raises: ArtifactError if the folder holds a pass over another text, or of other weights.
    """
    path, record_path = inspection_path(folder), folder / "record.safetensors"
    if path.exists():
        result, record = Inspection.load(path), CodeRecord.load(record_path)
        if what := _other(result, record, arm, plain, _first_tokens(stream, n_tokens)):
            raise ArtifactError(f"{folder}: is a look at {what}; remove it, and the same command looks again")
        return result, record
    result, record = inspect_run(
        arm, texts, n_tokens=n_tokens, seed=seed, neurons=plain, on_progress=on_progress,
        provenance={"command": this_command(), _NEURONS: plain.model.content_hash},
    )  # fmt: skip
    # The inspection last: where it is, the record is too.
    record.save(record_path)
    result.save(path)
    return result, record


def _other(
    result: Inspection, record: CodeRecord, arm: CodebookModel, plain: CodebookModel, tokens: Int[ndarray, " n"]
) -> str:
    """What the record or the inspection is of instead of these models and tokens; empty if it is of them."""
    config = arm.config
    if (record.source.get("model"), result.provenance.get(_NEURONS)) != (
        arm.model.content_hash,
        plain.model.content_hash,
    ):
        return "other weights"
    named = (record.source.get("dataset"), record.source.get("split"))
    if named != (config.dataset, config.data.judged_split):
        return f"{named[0]} ({named[1]})"
    for n in (len(record), result.n_tokens):
        if n != len(tokens):
            return f"{n:,} tokens, not {len(tokens):,}"
    return "" if np.array_equal(record.token_ids, tokens) else "another text under the same name"


def _first_tokens(stream: TokenStream, n_tokens: int) -> Int[ndarray, " n"]:
    parts, n = [np.zeros(0, dtype=np.int64)], 0
    for batch in stream.iter_pass():
        parts.append(batch.token_ids[batch.keep].cpu().numpy())
        n += batch.n_kept
        if n >= n_tokens:
            break
    return np.concatenate(parts)[:n_tokens]
