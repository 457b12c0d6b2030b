"""Rows of text drawn from all over a stream's beginning: what stands for the whole of what an SAE was trained on."""

from collections.abc import Iterator

import torch

from interp.datasets import TokenBatch
from saes.token_sample import TokenSource, iter_sample


def spread_sample(source: TokenSource, n_tokens: int, *, within: int, seed: int = 0) -> Iterator[TokenBatch]:
    """About `n_tokens` kept tokens: rows drawn by seed from the first `within` tokens, each as likely as another.

    All of them where the source holds no more. Reads `within` tokens, and holds their ids, but not their activations.

    Raises: DataError if the source holds no usable token.
    """
    pool = list(iter_sample(source, within, seed=seed))
    total = sum(batch.n_kept for batch in pool)
    generator = torch.Generator().manual_seed(seed)
    for batch in pool:
        # Drawn whatever the share, so that a larger sample holds the smaller one.
        chosen = torch.rand(batch.token_ids.shape[0], generator=generator) * total < n_tokens
        part = _rows(batch, chosen)
        if part.n_kept:
            yield part


def _rows(batch: TokenBatch, chosen: torch.Tensor) -> TokenBatch:
    mask = None if batch.attention_mask is None else batch.attention_mask[chosen]
    parts = (tensor[chosen] for tensor in (batch.position_ids, batch.document))
    return TokenBatch(batch.token_ids[chosen], batch.keep[chosen], mask, *parts)
