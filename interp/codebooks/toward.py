"""What the model itself predicts before a pattern, and the texts on which predictions with codes are held to it.

Axes: n tokens, v vocabulary.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from interp.codebooks.batches import LanguageBatch
from interp.codebooks.files import CodebookModel
from interp.codebooks.record import CodeRecord
from interp.codebooks.search import iter_matches
from interp.datasets import TokenStream
from interp.errors import ArtifactError, DataError
from interp.token_rows import TokenBatch


def before_matches(record: CodeRecord, expression: re.Pattern[str], texts: Sequence[str]) -> Bool[ndarray, " n"]:
    """Tokens directly before one with which a match begins: there the model is about to write it.

    `texts` is what each token id adds to a text.
    """
    found = np.zeros(len(record), dtype=bool)
    for places, ends, match in iter_matches(record, expression, texts):
        # The token that ends behind the match's first letter holds it; a space may belong to that token.
        first = int(np.searchsorted(ends, match.start() + 1))
        if first > 0:
            found[places[first - 1]] = True
    return found


def iter_recorded(record: CodeRecord, stream: TokenStream) -> Iterator[tuple[slice, TokenBatch]]:
    """Batches of the text that was looked at, with the part of the record that stands for each.

    Raises: ArtifactError if the text is not that of the record.
    """
    at = 0
    for batch in stream.iter_pass():
        found = batch.token_ids[batch.keep].cpu().numpy()[: len(record) - at]
        if not np.array_equal(found, record.token_ids[at : at + len(found)]):
            break
        yield slice(at, at + len(found)), batch
        at += len(found)
        if at == len(record):
            return
    raise ArtifactError(
        f"{stream.documents.name}: is not the text that was looked at (from token {at:,} of the record on); restore "
        "it, or look at the codes again"
    )


@torch.no_grad()
def mean_prediction(
    held: CodebookModel, stream: TokenStream, record: CodeRecord, where: Bool[ndarray, " n"]
) -> Float[Tensor, " v"]:
    """The model's own mean next-token distribution at some tokens of a record of this stream.

    Raises: DataError if there is none; ArtifactError if the stream is not that of the record.
    """
    model, total, n = held.model, torch.zeros(()), 0
    forward: Any = model.hf
    with held.inserted():
        for part, batch in iter_recorded(record, stream):
            flags = where[part]
            if flags.any():
                rows = LanguageBatch.of(batch, model.device)
                positions = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
                logits = forward(rows.token_ids, use_cache=False, **positions).logits
                kept = logits[batch.keep.to(logits.device)][: len(flags)]
                p = kept[torch.from_numpy(flags).to(logits.device)].float().softmax(1)
                total, n = total.to(p.device) + p.sum(0), n + len(p)
    if not n:
        raise DataError("got no place before the word in the half that judges; choose a commoner word, or more tokens")
    return total / n


def neutral_texts(held: CodebookModel, stream: TokenStream, n_texts: int = 8, n_tokens: int = 48) -> list[str]:
    """The beginnings of rows of text, on which predictions are compared."""
    found: list[str] = []
    for batch in stream.iter_pass():
        for row, real in zip(batch.token_ids, batch.document >= 0, strict=True):
            found.append(str(held.model.tokenizer.decode(row[real][:n_tokens], skip_special_tokens=True)))
            if len(found) == n_texts:
                return found
    return found
