"""Prefixes of text, the states at their last token, and how the model itself goes on from there.

Axes: b examples, l layers (hooks), n distances (0: the next token), d d_model, c last tokens of the prefix.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.datasets import TokenStream
from interp.errors import ConfigError, DataError
from interp.hooks import capture
from interp.lenses.logit import last_hook
from interp.models import Model

Decoding = Literal["greedy", "sampled"]
GROUP = 32
"""Rows that are cut at the same place."""
N_LAST = 2
"""Tokens of the prefix that are kept: what a trigram goes by."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """States of prefixes, and the model's own continuations of them.

    Shapes: hidden (b, l, d) at the prefix's last token; tokens (b, n), the continuation; final (b, n, d), the last
    layer's residual stream that predicts each of them; usable (b, n), False behind the end of a document; last (b, c),
    the prefix's last tokens; document (b,).
    """

    hooks: tuple[str, ...]
    hidden: Float[Tensor, "b l d"]
    tokens: Int[Tensor, "b n"]
    final: Float[Tensor, "b n d"]
    usable: Bool[Tensor, "b n"]
    last: Int[Tensor, "b c"]
    document: Int[Tensor, " b"]

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def n_distances(self) -> int:
        return self.tokens.shape[1]

    def take(self, rows: Int[Tensor, " _"] | slice) -> "Continuations":
        """The chosen examples."""
        held = (self.hidden, self.tokens, self.final, self.usable, self.last, self.document)
        return Continuations(self.hooks, *(tensor[rows] for tensor in held))


def joined(parts: Sequence[Continuations]) -> Continuations:
    """Several sets of the same hooks, one behind the other."""
    names = ("hidden", "tokens", "final", "usable", "last", "document")
    return Continuations(parts[0].hooks, *(torch.cat([getattr(part, name) for part in parts]) for name in names))


@torch.no_grad()
def continue_rows(
    model: Model,
    prefixes: Int[Tensor, "b t"],
    documents: Int[Tensor, " b"],
    *,
    hooks: Sequence[str],
    n_distances: int,
    decoding: Decoding,
    generator: torch.Generator | None = None,
) -> Continuations:
    """Prefixes of one length, continued by `n_distances` tokens: the likeliest, or drawn at temperature 1.

    Raises: ConfigError if prefix and continuation do not fit the model's context.
    """
    if prefixes.shape[1] + n_distances > model.context_size or prefixes.shape[1] < N_LAST:
        raise ConfigError(
            f"got prefixes of {prefixes.shape[1]} tokens and {n_distances} to come; expected at least {N_LAST} and in "
            f"all at most {model.context_size}, the context of {model.name}"
        )
    prefixes = prefixes.to(model.device)
    tokens = _extend(model, prefixes, n_distances, _chooser(decoding, generator))
    rows = torch.cat([prefixes, tokens[:, :-1]], dim=1)
    last, at = last_hook(model), prefixes.shape[1] - 1
    acts = capture(model, rows, [*hooks, last])
    hidden = torch.stack([acts[hook][:, at] for hook in hooks], dim=1).float()
    ends = torch.isin(tokens, torch.tensor(sorted(_end_ids(model)), dtype=tokens.dtype, device=tokens.device))
    ended_before = (ends.long().cumsum(1) - ends.long()) > 0
    return Continuations(
        tuple(hooks), hidden, tokens, acts[last][:, at:].float(), ~ended_before, prefixes[:, -N_LAST:],
        documents.to(model.device),
    )  # fmt: skip


def _extend(model: Model, prefixes: Tensor, n: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
    cache, token_ids, found = DynamicCache(config=model.hf.config), prefixes, []
    for _ in range(n):
        logits = model.hf(token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        token_ids = choose(logits)
        found.append(token_ids)
    return torch.cat(found, dim=1)


def _chooser(decoding: Decoding, generator: torch.Generator | None) -> Callable[[Tensor], Tensor]:
    if decoding == "greedy":
        return lambda logits: logits.argmax(-1, keepdim=True)
    return lambda logits: torch.multinomial(logits.softmax(-1), 1, generator=generator)


def _end_ids(model: Model) -> set[int]:
    """Tokens behind which the model says nothing about this text any more."""
    known = (model.tokenizer.eos_token_id, model.bos_token_id)
    return {token for token in known if token is not None}


def draw_continuations(
    model: Model,
    stream: TokenStream,
    *,
    hooks: Sequence[str],
    n_examples: int,
    n_distances: int,
    decoding: Decoding,
    shortest_prefix: int,
    prefixes_per_row: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Continuations:
    """Examples from as much of one pass over the stream as they need; fewer if it holds fewer.

    Rows of like length are cut at the same place, drawn anew `prefixes_per_row` times, so that no padding stands in
    any prefix. A prefix ends at a token that the mask keeps.

    Raises: ConfigError for packed rows; DataError if no row is long enough.
    """
    if stream.config.rows != "padded":
        raise ConfigError(f"data.rows: got {stream.config.rows}; a prefix is one document's; use padded")
    parts: list[Continuations] = []
    found = 0
    for number, prefixes, documents in _cut(model, stream, shortest_prefix, prefixes_per_row, n_distances, seed):
        generator = torch.Generator(model.device).manual_seed(seed * 1_000_003 + number)
        part = continue_rows(
            model, prefixes, documents, hooks=hooks, n_distances=n_distances, decoding=decoding, generator=generator
        )
        parts.append(part.take(slice(0, n_examples - found)))
        found += len(parts[-1])
        if on_progress is not None:
            on_progress(found, n_examples)
        if found == n_examples:
            break
    if not parts:
        raise DataError(
            f"{stream.documents.name}: no row holds {shortest_prefix} tokens ({stream.split} split); "
            "give longer text, or a smaller future.shortest_prefix"
        )
    return joined(parts)


def _cut(
    model: Model, stream: TokenStream, shortest: int, per_row: int, n_distances: int, seed: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    number = 0
    for batch in stream.iter_pass():
        lengths = (batch.document >= 0).sum(1)
        # Rows stand in the order of their length, so that few of a group end before the place where it is cut.
        for group in torch.arange(len(lengths)).split(GROUP):
            longest = min(int(lengths[group].max()), model.context_size - n_distances)
            for _ in range(per_row if longest >= shortest else 0):
                n = int(torch.randint(shortest, longest + 1, (1,), generator=draw))
                rows = group[(lengths[group] >= n) & batch.keep[group, n - 1]]
                if rows.numel():
                    yield number, batch.token_ids[rows, :n], batch.document[rows, 0]
                number += 1


class ContinuationBatches:
    """Examples in batches of one size, pass after pass, every pass in an order of its own; what is left over waits."""

    def __init__(self, examples: Continuations, *, batch_size: int, seed: int) -> None:
        """Raises: ConfigError if there are fewer examples than one batch holds."""
        if len(examples) < batch_size:
            raise ConfigError(
                f"got {len(examples)} examples for batches of {batch_size}; give more text or smaller batches"
            )
        self._examples, self._size, self._seed = examples, batch_size, seed
        self.seek({"epoch": 0, "batch": 0})

    def cursor(self) -> dict[str, int]:
        """Where to go on: pass it to `seek`."""
        return {"epoch": self._epoch, "batch": self._next}

    def seek(self, cursor: Mapping[str, int]) -> None:
        """Go to a cursor."""
        self._epoch, self._next = cursor["epoch"], cursor["batch"]
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        self._order = torch.randperm(len(self._examples), generator=generator)

    def __next__(self) -> Continuations:
        if (self._next + 1) * self._size > len(self._examples):
            self.seek({"epoch": self._epoch + 1, "batch": 0})
        rows = self._order[self._next * self._size : (self._next + 1) * self._size]
        self._next += 1
        return self._examples.take(rows.to(self._examples.tokens.device))
