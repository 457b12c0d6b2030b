"""Whether predictions with codes put in come near to those that the model itself makes before a pattern.

Axes: n tokens, b rows, t position, v vocabulary.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from interp.codebooks.activation import Activation
from interp.codebooks.batches import LanguageBatch
from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.files import CodebookModel
from interp.codebooks.insertion import Insertion
from interp.codebooks.names import CodeName
from interp.codebooks.record import CodeRecord
from interp.datasets import TokenStream
from interp.errors import DataError
from interp.prompts import Prompts


def before_matches(record: CodeRecord, expression: re.Pattern[str], texts: Sequence[str]) -> Bool[ndarray, " n"]:
    """Tokens directly before one with which a match begins: there the model is about to write it.

    `texts` is what each token id adds to a text.
    """
    found = np.zeros(len(record), dtype=bool)
    edges = np.flatnonzero((np.diff(record.row) != 0) | (np.diff(record.document) != 0)) + 1
    for places in np.split(np.arange(len(record)), edges):
        pieces = [texts[token] for token in record.token_ids[places]]
        ends = np.cumsum([len(piece) for piece in pieces])
        for match in expression.finditer("".join(pieces)):
            # The token that ends behind the match's first letter holds it; a space may belong to that token.
            first = int(np.searchsorted(ends, match.start() + 1))
            if first > 0 and match.end() > match.start():
                found[places[first - 1]] = True
    return found


@torch.no_grad()
def mean_prediction(held: CodebookModel, stream: TokenStream, where: Bool[ndarray, " n"]) -> Float[Tensor, " v"]:
    """The model's own mean next-token distribution at some tokens of the record of the same stream.

    Raises: DataError if there is none.
    """
    model, total, n, at = held.model, torch.zeros(()), 0, 0
    forward: Any = model.hf
    with held.inserted():
        for batch in stream.iter_pass():
            flags = where[at : at + batch.n_kept]
            at += batch.n_kept
            if flags.any():
                rows = LanguageBatch.of(batch, model.device)
                positions = {} if rows.position_ids is None else {"position_ids": rows.position_ids}
                logits = forward(rows.token_ids, use_cache=False, **positions).logits
                kept = logits[batch.keep.to(logits.device)][: len(flags)]
                p = kept[torch.from_numpy(flags).to(logits.device)].float().softmax(1)
                total, n = total.to(p.device) + p.sum(0), n + len(p)
            if at >= len(where):
                break
    if not n:
        raise DataError("got no place before the word in the half that judges; choose a commoner word, or more tokens")
    return total / n


@torch.no_grad()
def toward(held: CodebookModel, codes: Sequence[CodeName], prompts: Prompts, target: Float[Tensor, " v"]) -> float:
    """Mean divergence over tokens of the next-token distributions, with codes active at all of them, from a target."""
    ids = prompts.token_ids.to(held.model.device)
    edits = Activation(codes, held.codebooks, "all", ids.shape[1]).edits()
    forward: Any = held.model.hf
    with Insertion(held.model, held.codebooks, choose=edits):
        p = forward(ids, use_cache=False).logits.float().softmax(2)
    return float(jensen_shannon(p, target.expand_as(p))[prompts.real.to(ids.device)].mean())
