"""Stories written by the model itself, at temperature 1 and with fixed seeds.

Axes: b rows, t position in the row, v vocabulary.
"""

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from interp.models import Model
from interp.storage import write_bytes

BATCH = 64


def iter_samples(model: Model, n: int, *, seed: int, n_contexts: int = 4) -> Iterator[str]:
    """`n` documents from BOS until the model ends them; one cut at `n_contexts` contexts keeps what it has.

    Batch number i of 64 has a generator of its own, seeded with seed x 1,000,000 + i. Past the context size a document
    goes on from its last half context. Documents that end at once are left out and not replaced.
    """
    max_tokens = n_contexts * model.context_size
    for index, first in enumerate(range(0, n, BATCH)):
        generator = torch.Generator(model.device).manual_seed(seed * 1_000_000 + index)
        rows = sample_token_ids(model, min(BATCH, n - first), generator=generator, max_tokens=max_tokens)
        yield from (text for text in model.tokenizer.batch_decode(rows, skip_special_tokens=True) if text.strip())


@torch.no_grad()
def sample_token_ids(model: Model, n: int, *, generator: torch.Generator, max_tokens: int) -> list[list[int]]:
    """Token ids of `n` documents, without BOS at either end."""
    end = model.bos_token_id
    assert end is not None
    documents: list[list[int]] = [[] for _ in range(n)]
    unfinished = list(range(n))
    prompts = torch.full((n, 1), end, device=model.device)
    while unfinished:
        new = _extend(model, prompts, generator=generator)
        going_on = []
        for row, ids in enumerate(new.tolist()):
            ended = end in ids
            documents[unfinished[row]] += ids[: ids.index(end)] if ended else ids
            if not ended and len(documents[unfinished[row]]) < max_tokens:
                going_on.append(row)
        unfinished = [unfinished[row] for row in going_on]
        prompts = torch.cat([prompts, new], dim=1)[going_on, -(model.context_size // 2) :]
    return [ids[:max_tokens] for ids in documents]


def _extend(model: Model, prompts: Int[Tensor, "b t"], *, generator: torch.Generator) -> Int[Tensor, "b new"]:
    """Tokens after each prompt until the context is full or all rows have ended."""
    cache, token_ids, new = DynamicCache(config=model.hf.config), prompts, []
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
    never = [] if model.tokenizer.pad_token_id is None else [model.tokenizer.pad_token_id]
    for _ in range(model.context_size + 1 - prompts.shape[1]):
        logits = model.hf(token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        logits[:, never] = -torch.inf
        token_ids = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        new.append(token_ids)
        ended |= token_ids[:, 0] == model.bos_token_id
        if bool(ended.all()):
            break
    return torch.cat(new, dim=1)


def write_corpus(path: Path, texts: Iterable[str]) -> None:
    """Texts as gzipped JSON lines {"text": ...}; equal texts give equal bytes."""
    buffer = io.BytesIO()
    # A time of 0 and no file name in the header, or the same corpus would differ from run to run.
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
    write_bytes(path, buffer.getvalue())
