"""Prompts and pairs of prompts from files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.errors import DataError
from interp.models import Model
from interp.prompts import PromptPairs, Prompts, encode_prompts, prompts_of
from interp.texts import open_texts


def read_pairs(model: Model, path: Path, *, add_bos: bool = True) -> PromptPairs:
    """Pairs from JSON lines of {clean, corrupt, answer, foil, cluster}; foil and cluster may be left out of all.

    Raises: DataError for a record without a field that the others have; ShapeError for a pair that does not align.
    """
    records = read_records(path, ("clean", "corrupt", "answer"), ("foil", "cluster"))
    return pairs_of(model, records, add_bos=add_bos)


def pairs_of(model: Model, records: Sequence[Mapping[str, Any]], *, add_bos: bool = True) -> PromptPairs:
    """The same from values in memory."""
    told: dict[str, Any] = {
        "answers": [record["answer"] for record in records],
        "foils": [record["foil"] for record in records] if "foil" in records[0] else None,
        "clusters": _clusters(records),
        "add_bos": add_bos,
    }
    clean, corrupt = (
        encode_prompts(model, [record[side] for record in records], **told) for side in ("clean", "corrupt")
    )
    return PromptPairs(clean, corrupt)


def read_prompts(
    model: Model,
    name: str,
    *,
    n: int | None = None,
    add_bos: bool = True,
    answer: str | None = None,
    foil: str | None = None,
) -> Prompts:
    """The first n prompts of JSON lines of {text, answer, foil, cluster}, or lines of any text that `open_texts` reads.

    Texts longer than the context, and empty ones, are left out. All but text may be left out of all records; `answer`
    and `foil` are those of records that name none.

    Raises: DataError for a record without a field that the others have, or where no prompt is left.
    """
    if name.endswith(".jsonl"):
        records: Sequence[Mapping[str, Any]] = read_records(Path(name), ("text",), ("answer", "foil", "cluster"))
    else:
        records = [{"text": text} for text in open_texts(name)]
    told = {field: value for field, value in (("answer", answer), ("foil", foil)) if value is not None}
    records = [told | {**record} for record in records]
    fitting = [record for record in records if record["text"].strip() and _fits(model, record["text"])][:n]
    if not fitting:
        raise DataError(f"{name}: holds no text of at most {model.context_size} tokens; give shorter ones")
    return encode_prompts(
        model,
        [record["text"] for record in fitting],
        answers=[record["answer"] for record in fitting] if "answer" in fitting[0] else None,
        foils=[record["foil"] for record in fitting] if "foil" in fitting[0] else None,
        clusters=_clusters(fitting),
        add_bos=add_bos,
    )


def last_held_out(prompts: Prompts) -> Prompts:
    """Prompts without their last token, which becomes the answer.

    Raises: DataError for a prompt of one token.
    """
    lengths = prompts.real.sum(1)
    if int(lengths.min()) < 2:
        raise DataError(f"prompt {int(lengths.argmin())} has one token; expected two, the last of which is predicted")
    rows = [ids[: length - 1].tolist() for ids, length in zip(prompts.token_ids, lengths.tolist(), strict=True)]
    answers = prompts.token_ids[range(len(prompts)), prompts.last].tolist()
    return prompts_of(rows, answers=answers, clusters=prompts.clusters.tolist(), texts=prompts.texts)


def _fits(model: Model, text: str) -> bool:
    ids = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    frame = (model.frame.begin, model.frame.end)
    return len(ids) + sum(token is not None for token in frame) <= model.context_size


def _clusters(records: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """Numbers of the clusters' names, in order of appearance."""
    if "cluster" not in records[0]:
        return None
    names = list(dict.fromkeys(str(record["cluster"]) for record in records))
    return [names.index(str(record["cluster"])) for record in records]


def read_records(path: Path, needed: Sequence[str], optional: Sequence[str]) -> list[dict[str, Any]]:
    """JSON lines that all hold what is needed, and of what is optional the same as the first.

    Raises: DataError naming the line that does not.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        records: list[Any] = [json.loads(line) for line in lines]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise DataError(f"{path}: is not JSON lines in UTF-8; expected one object a line") from None
    if not records:
        raise DataError(f"{path}: is empty; expected JSON lines with {', '.join(needed)}")
    known = [*needed, *(name for name in optional if isinstance(records[0], dict) and name in records[0])]
    for number, record in enumerate(records, 1):
        missing = [name for name in known if not isinstance(record, dict) or name not in record]
        wrong = [name for name in known if not missing and name != "cluster" and not isinstance(record[name], str)]
        if missing or wrong:
            raise DataError(f"{path}, line {number}: expected text under {(missing or wrong)[0]!r}, as in all records")
    return records
