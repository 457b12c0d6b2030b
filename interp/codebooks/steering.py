"""Codes put in while a model writes: how often it then writes what was wanted, and at what cost.

Axes: b rows (texts), t position, v vocabulary.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.codebooks.activation import Activation, Where
from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Choose, Codebooks, Insertion
from interp.codebooks.names import CodeName
from interp.codebooks.record import CodeRecord
from interp.codebooks.steered import CodeSteering, SteeredOutcome
from interp.errors import ConfigError, DataError
from interp.models import Model
from interp.prompts import encode_prompts

NEAREST = 20
Progress = Callable[[int, int], None]


def steer_codes(
    model: Model,
    codebooks: Codebooks,
    record: CodeRecord,
    codes: Sequence[CodeName],
    prompt: str,
    pattern: str,
    *,
    neutral: Sequence[str],
    where: Where | Sequence[int] = "all",
    n_texts: int = 50,
    new_tokens: int = 30,
    n_controls: int = 100,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> CodeSteering:
    """Write texts with the codes active, without, and with random ones; sampled at temperature 1, seeds shared.

    Raises: ConfigError for a bad pattern or no code; DataError for a prompt that fills the context.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"got pattern {pattern!r}: {error}; give a regular expression of Python") from None
    if not codes:
        raise ConfigError("got no codes; give --codes, such as 2.attn.5.731 (`interp codebook search` finds some)")
    scene = _Writing(model, codebooks, prompt, wanted, tuple(neutral), where, n_texts, new_tokens, seed)
    unsteered, before = scene.outcome(())
    steered, after = scene.outcome(codes)
    sets, controls = random_sets(record, codes, n_controls, np.random.default_rng(seed)), []
    for index, random in enumerate(sets):
        controls.append(scene.outcome(random)[0])
        if on_progress is not None:
            on_progress(index + 1, len(sets))
    told = where if isinstance(where, str) else ",".join(map(str, where))
    names = tuple(map(str, codes))
    return CodeSteering(
        names, pattern, told, prompt, n_texts, unsteered, steered, tuple(controls), tuple(after[:8]),
        tuple(before[:8]), dict(provenance or {}),
    )  # fmt: skip


def random_sets(
    record: CodeRecord, codes: Sequence[CodeName], n: int, generator: np.random.Generator
) -> list[tuple[CodeName, ...]]:
    """Up to `n` different sets: for each code another one of its codebook that is about as frequent.

    Of the codes nearest in frequency, as many as there are sets (20 at least), each is drawn before any is drawn again.
    There are fewer sets where codebooks hold no more.
    Raises: ConfigError if a codebook has not enough other codes.
    """
    pools = [_alike(record, codes, name, max(NEAREST, n)) for name in codes]
    queues: list[list[CodeName]] = [[] for _ in codes]
    found: dict[frozenset[CodeName], tuple[CodeName, ...]] = {}
    repeated = 0
    # A round through the largest pool that brings nothing new ends it.
    while len(found) < n and repeated <= max(len(pool) for pool in pools):
        drawn: list[CodeName] = []
        for pool, queue in zip(pools, queues, strict=True):
            if not set(queue) - set(drawn):
                queue += [pool[index] for index in generator.permutation(len(pool))]
            drawn.append(queue.pop(next(place for place, one in enumerate(queue) if one not in drawn)))
        repeated = repeated + 1 if frozenset(drawn) in found else 0
        found.setdefault(frozenset(drawn), tuple(drawn))
    return list(found.values())


def _alike(record: CodeRecord, codes: Sequence[CodeName], name: CodeName, n: int) -> list[CodeName]:
    """The `n` codes of a code's codebook that are nearest to it in frequency, none of the given ones among them."""
    book = record.book(name.hook, name.group)
    counts = book.counts().astype(np.float64)
    taken = list({other.code for other in codes if (other.hook, other.group) == (name.hook, name.group)})
    if 2 * len(taken) > len(counts):
        raise ConfigError(
            f"got {len(taken)} codes of a codebook of {len(counts)}; none is left to compare them with; give fewer"
        )
    distance = np.abs(np.log1p(counts) - np.log1p(counts[name.code]))
    distance[taken] = np.inf
    near = np.argsort(distance, kind="stable")[: min(max(n, len(taken)), len(counts) - len(taken))]
    return [book.code(int(code)) for code in near]


@dataclass(frozen=True, slots=True)
class _Writing:
    """How texts are written and judged."""

    model: Model
    codebooks: Codebooks
    prompt: str
    wanted: re.Pattern[str]
    neutral: tuple[str, ...]
    where: Where | Sequence[int]
    n_texts: int
    new_tokens: int
    seed: int

    @torch.no_grad()
    def outcome(self, codes: Sequence[CodeName]) -> tuple[SteeredOutcome, list[str]]:
        prompt = encode_prompts(self.model, [self.prompt]).token_ids.to(self.model.device)
        n_prompt = prompt.shape[1]
        room = min(self.new_tokens, self.model.context_size - n_prompt)
        if room < 1:
            raise DataError(f"got a prompt of {n_prompt} tokens, which fills the context; shorten it")
        edits = Activation(codes, self.codebooks, self.where, n_prompt).edits()
        with Insertion(self.model, self.codebooks, choose=edits):
            rows = _sample(self.model, prompt.expand(self.n_texts, -1), room, self.seed)
        texts = self.model.tokenizer.batch_decode(rows[:, n_prompt:], skip_special_tokens=True)
        success = float(np.mean([bool(self.wanted.search(text)) for text in texts]))
        return SteeredOutcome(success, self._perplexity(rows, n_prompt), self._shift(codes)), texts

    def _perplexity(self, rows: Int[Tensor, "b t"], n_prompt: int) -> float:
        logits = _logits(self.model, self.codebooks, rows)[:, n_prompt - 1 : -1]
        targets = rows[:, n_prompt:]
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return float(nats.exp())

    def _shift(self, codes: Sequence[CodeName]) -> float:
        """Mean over neutral texts' tokens of the divergence that the codes make, active at every token."""
        if not codes or not self.neutral:
            return 0.0
        prompts = encode_prompts(self.model, self.neutral)
        ids = prompts.token_ids.to(self.model.device)
        edits = Activation(codes, self.codebooks, "all", ids.shape[1]).edits()
        with_codes = _logits(self.model, self.codebooks, ids, edits).softmax(2)
        divergence = jensen_shannon(with_codes, _logits(self.model, self.codebooks, ids).softmax(2))
        return float(divergence[prompts.real.to(ids.device)].mean())


def _logits(
    model: Model, codebooks: Codebooks, ids: Int[Tensor, "b t"], choose: Mapping[str, Choose] | None = None
) -> Float[Tensor, "b t v"]:
    forward: Any = model.hf
    with Insertion(model, codebooks, choose=choose):
        logits: Tensor = forward(ids, use_cache=False).logits
    return logits.float()


def _sample(model: Model, prompt: Int[Tensor, "b t"], n_new: int, seed: int) -> Int[Tensor, "b t2"]:
    """Prompts gone on with by draws at temperature 1; the end of a text is drawn on like any token."""
    generator = torch.Generator(model.device).manual_seed(seed)
    cache, ids, rows = DynamicCache(config=model.hf.config), prompt, prompt
    forward: Any = model.hf
    for _ in range(n_new):
        logits = forward(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        ids = torch.multinomial(logits.softmax(1), 1, generator=generator)
        rows = torch.cat([rows, ids], dim=1)
    return rows
