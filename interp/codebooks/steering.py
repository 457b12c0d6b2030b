"""Codes put in while a model writes: how often it then writes what was wanted, and at what cost.

Axes: b rows (texts), t position, v vocabulary.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.codebooks.activation import Activation, Where
from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Choose, Codebooks, Insertion
from interp.codebooks.names import CodeName
from interp.codebooks.random_codes import random_sets, relative_frequency
from interp.codebooks.record import CodeRecord
from interp.codebooks.search import expression_of
from interp.codebooks.steered import CodeSteering, SteeredOutcome
from interp.errors import ConfigError, DataError
from interp.models import Model
from interp.prompts import encode_prompts

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
    target: Float[Tensor, " v"] | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> CodeSteering:
    """Write texts with the codes active, without, and with random ones; sampled at temperature 1, seeds shared.

    `target`, the model's own predictions before the pattern, lets the result tell how near codes bring it to them.
    Texts are shorter than `new_tokens` where the context is full before.
    Raises: ConfigError for a pattern that says nothing, no code, or a place that is never reached; DataError for a
    prompt that fills the context.
    """
    wanted = expression_of(pattern)
    if wanted.search(""):
        raise ConfigError(f"got pattern {pattern!r}, which every text matches; give one that needs some letter")
    if not codes:
        raise ConfigError("got no codes; give --codes, such as 2.attn.5.731 (`interp codebook search` finds some)")
    codes = tuple(dict.fromkeys(codes))
    rows = encode_prompts(model, [prompt]).token_ids.to(model.device)
    room = min(new_tokens, model.context_size - rows.shape[1])
    _check_reached(where, rows.shape[1], room)
    read = _read_neutral(model, codebooks, neutral, target)
    scene = _Writing(model, codebooks, rows, wanted, where, n_texts, room, seed, read)
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
        tuple(before[:8]), dict(provenance or {}), room, new_tokens, n_controls,
        relative_frequency(record, codes, sets),
    )  # fmt: skip


def _check_reached(where: Where | Sequence[int], n_prompt: int, room: int) -> None:
    """Raises: DataError without room to write; ConfigError if codes would be put in at no token that is read."""
    if room < 1:
        raise DataError(f"got a prompt of {n_prompt} tokens, which fills the context; shorten it")
    # The last token that is written is not read again.
    n_read = n_prompt + room - 1
    if where == "generated" and n_read == n_prompt:
        raise ConfigError("where: got generated, but texts of one token are never read on; give more --new-tokens")
    if not isinstance(where, str) and (outside := [at for at in where if not 0 <= at < n_read]):
        raise ConfigError(f"where: got position {outside[0]}; the prompt and what is written have 0 to {n_read - 1}")
    if not len(where):
        raise ConfigError("where: got no position; expected all, prompt, generated, last or positions such as 3,4,5")


@dataclass(frozen=True, slots=True)
class _Neutral:
    """Texts on which predictions are compared. Shapes: ids, real (b, t); plain (b, t, v), without codes put in; target
    (v,), and how far `plain` is from it on average."""

    ids: Int[Tensor, "b t"]
    real: Bool[Tensor, "b t"]
    plain: Float[Tensor, "b t v"]
    target: Float[Tensor, " v"] | None
    from_target: float | None

    @torch.no_grad()
    def compare(self, model: Model, codebooks: Codebooks, codes: Sequence[CodeName]) -> tuple[float, float | None]:
        """Mean divergence that the codes make, active at every token, and the relative one from the target."""
        if not codes:
            return 0.0, None if self.target is None else 1.0
        edits = Activation(codes, codebooks, "all", self.ids.shape[1]).edits()
        p = _logits(model, codebooks, self.ids, edits).softmax(2)
        shift = float(jensen_shannon(p, self.plain)[self.real].mean())
        if self.target is None or not self.from_target:
            return shift, None
        return shift, float(jensen_shannon(p, self.target.expand_as(p))[self.real].mean()) / self.from_target


@torch.no_grad()
def _read_neutral(
    model: Model, codebooks: Codebooks, texts: Sequence[str], target: Float[Tensor, " v"] | None
) -> _Neutral:
    prompts = encode_prompts(model, texts)
    ids, real = prompts.token_ids.to(model.device), prompts.real.to(model.device)
    plain = _logits(model, codebooks, ids).softmax(2)
    if target is None:
        return _Neutral(ids, real, plain, None, None)
    target = target.to(plain.device)
    return _Neutral(ids, real, plain, target, float(jensen_shannon(plain, target.expand_as(plain))[real].mean()))


@dataclass(frozen=True, slots=True)
class _Writing:
    """How texts are written and judged. Shapes: prompt (1, t)."""

    model: Model
    codebooks: Codebooks
    prompt: Int[Tensor, "1 t"]
    wanted: re.Pattern[str]
    where: Where | Sequence[int]
    n_texts: int
    room: int
    seed: int
    neutral: _Neutral

    @torch.no_grad()
    def outcome(self, codes: Sequence[CodeName]) -> tuple[SteeredOutcome, list[str]]:
        n_prompt = self.prompt.shape[1]
        edits = Activation(codes, self.codebooks, self.where, n_prompt).edits()
        with Insertion(self.model, self.codebooks, choose=edits):
            rows = _sample(self.model, self.prompt.expand(self.n_texts, -1), self.room, self.seed)
        texts = self.model.tokenizer.batch_decode(rows[:, n_prompt:], skip_special_tokens=True)
        success = float(np.mean([bool(self.wanted.search(text)) for text in texts]))
        shift, toward = self.neutral.compare(self.model, self.codebooks, codes)
        return SteeredOutcome(success, self._perplexity(rows, n_prompt), shift, toward), texts

    def _perplexity(self, rows: Int[Tensor, "b t"], n_prompt: int) -> float:
        logits = _logits(self.model, self.codebooks, rows)[:, n_prompt - 1 : -1]
        targets = rows[:, n_prompt:]
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return float(nats.exp())


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
