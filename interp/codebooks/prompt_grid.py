"""Which code of each codebook is active at each token of a prompt.

Axes: m codebooks, t position, k active codes.
"""

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from interp.codebooks.insertion import Codebooks, Insertion
from interp.codebooks.names import book_name
from interp.codebooks.record import CodeRecord
from interp.models import Model
from interp.prompts import encode_prompts


@dataclass(frozen=True, slots=True)
class PromptGrid:
    """Codes of a prompt. Shapes: ids (m, t, k), most similar first; share (m, t, k), of recorded tokens at which each
    code is active, NaN without a record."""

    tokens: tuple[str, ...]
    books: tuple[str, ...]
    ids: Int[ndarray, "m t k"]
    share: Float[ndarray, "m t k"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        share = [[[None if np.isnan(x) else x for x in row] for row in book] for book in self.share.tolist()]
        return {"tokens": list(self.tokens), "books": list(self.books), "ids": self.ids.tolist(), "share": share}

    def _repr_html_(self) -> str:
        """The most similar code of each codebook."""
        heads = "".join(f"<th>{html.escape(token)}</th>" for token in ("", *self.tokens))
        rows = "".join(
            f"<tr><td>{name}</td>{''.join(f'<td>{code}</td>' for code in ids[:, 0])}</tr>"
            for name, ids in zip(self.books, self.ids, strict=True)
        )
        return f"<table><tr>{heads}</tr>{rows}</table>"


@torch.no_grad()
def prompt_grid(model: Model, codebooks: Codebooks, prompt: str, record: CodeRecord | None = None) -> PromptGrid:
    """Codes at every token of a prompt, its frame included.

    Raises: DataError for an empty prompt or one beyond the context.
    """
    token_ids = encode_prompts(model, [prompt]).token_ids.to(model.device)
    body: Any = model.hf.base_model
    with Insertion(model, codebooks) as insertion:
        body(token_ids, use_cache=False)
        seen = insertion.take()
    most = max((quantiser.k for _, quantiser in codebooks.items()), default=1)
    names, ids, shares = [], [], []
    for hook, quantiser in codebooks.items():
        for group in range(quantiser.n_groups):
            own = seen[hook].ids[0, :, group].cpu().numpy()
            names.append(book_name(hook, group))
            ids.append(np.pad(own, ((0, 0), (0, most - own.shape[1])), constant_values=-1))
            counts = None if record is None else record.book(hook, group).counts() / len(record)
            shares.append(np.where(ids[-1] >= 0, np.nan if counts is None else counts[ids[-1]], np.nan))
    tokens = tuple(str(model.tokenizer.decode([token])) for token in token_ids[0].tolist())
    return PromptGrid(tokens, tuple(names), np.stack(ids), np.stack(shares))
