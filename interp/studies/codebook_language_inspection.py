"""What a study looks at of an arm: kept in the study's own folder, since looking at the arm again changes the arm's."""

from collections.abc import Callable, Sequence
from pathlib import Path

from interp.codebooks.files import CodebookModel
from interp.codebooks.inspected import Inspection, inspect_run
from interp.codebooks.record import CodeRecord
from interp.codebooks.toward import iter_recorded
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
        if what := _other(result, record, arm, plain, stream, n_tokens):
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
    result: Inspection, record: CodeRecord, arm: CodebookModel, plain: CodebookModel, stream: TokenStream, n_tokens: int
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
    expected = _n_there(stream, n_tokens)
    for n in (len(record), result.n_tokens):
        if n != expected:
            return f"{n:,} tokens, not {expected:,}"
    try:
        for _ in iter_recorded(record, stream):
            pass
    except ArtifactError:
        return "another text under the same name"
    return ""


def _n_there(stream: TokenStream, n_tokens: int) -> int:
    """Tokens that a look at the first so many takes: fewer where the text ends before."""
    n = 0
    for batch in stream.iter_pass():
        n += batch.n_kept
        if n >= n_tokens:
            break
    return min(n, n_tokens)
