"""Every arm of the lens table, measured on the same held-out prefixes.

Axes: b examples, l layers (hooks), n distances, k predicted tokens, v vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ShapeError
from interp.lenses.continuations import N_LAST, Continuations
from interp.lenses.followers import Followers
from interp.lenses.future import MODES, FutureLens, Method
from interp.lenses.future import Mode as Mode
from interp.lenses.logit import Reconstruct, logit_lens
from interp.lenses.scoring import Hits, figures_at, likeliest, score
from interp.lenses.table import (
    BIGRAM,
    FIXED,
    FIXED_ALONE,
    ITSELF,
    LEARNED,
    LEARNED_ALONE,
    LINEAR_HIDDEN,
    LINEAR_VOCAB,
    LOGIT_LENS,
    TRIGRAM,
    TUNED_LENS,
    LensRow,
    LensTable,
)
from interp.lenses.transplant import NOWHERE
from interp.lenses.tuned import TunedLens

CHUNK = 64
"""Examples to a forward pass."""
_NAMES: Mapping[Method, tuple[str, str]] = {
    "linear_vocab": (LINEAR_VOCAB, ""),
    "linear_hidden": (LINEAR_HIDDEN, ""),
    "fixed_prompt": (FIXED, FIXED_ALONE),
    "learned_prompt": (LEARNED, LEARNED_ALONE),
}
Logits = Callable[[Continuations], Float[Tensor, "b n v"]]


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm at one layer: its logits for a chunk of examples, at the first distances or all."""

    name: str
    mode: Mode
    hook: str | None
    logits: Logits


@dataclass(frozen=True, slots=True)
class CountedArms:
    """Bigram and trigram arms, counted once: blind ones sum over the tokens between, one table for each distance."""

    n_distances: int
    tables: dict[tuple[int, int], Followers] = field(default_factory=dict)

    @staticmethod
    def of(documents: Sequence[Sequence[int]], *, n_distances: int, vocab_size: int) -> "CountedArms":
        """Raises: DataError if there is nothing to count."""
        places = [(n_context, gap) for n_context in (1, 2) for gap in range(n_distances)]
        tables = {
            (n_context, gap): Followers(documents, n_context=n_context, gap=gap, vocab_size=vocab_size)
            for n_context, gap in places
        }
        return CountedArms(n_distances, tables)

    def top(self, n_context: int, mode: Mode, examples: Continuations) -> Int[Tensor, "b n k"]:
        """Predicted tokens at each distance."""
        before = torch.cat([examples.last, examples.tokens], dim=1).cpu()
        found = []
        for n in range(self.n_distances):
            end = N_LAST + (n if mode == "fed" else 0)
            table = self.tables[n_context, 0 if mode == "fed" else n]
            found.append(torch.from_numpy(table.top(before[:, end - n_context : end].numpy())))
        return torch.stack(found, dim=1)


def reconstructed(examples: Continuations, reconstruct: Mapping[str, Reconstruct]) -> Continuations:
    """The same examples with the states at some hooks as a dictionary reconstructs them.

    Raises: ShapeError if a hook is not among the examples'.
    """
    hidden = examples.hidden.clone()
    for hook, function in reconstruct.items():
        if hook not in examples.hooks:
            raise ShapeError(f"got a reconstruction of {hook}; the lens reads {', '.join(examples.hooks)}")
        layer = examples.hooks.index(hook)
        hidden[:, layer] = function(hidden[:, layer])
    return replace(examples, hidden=hidden)


def arms_of(lens: FutureLens, tuned: TunedLens | None) -> Iterator[Arm]:
    """All arms that give logits, layer by layer."""
    for layer, hook in enumerate(lens.hooks):
        yield Arm(LOGIT_LENS, "blind", hook, _of_logit_lens(lens, layer))
        if tuned is not None and hook in (*tuned.hooks, tuned.teacher_hook):
            yield Arm(TUNED_LENS, "blind", hook, _of_tuned_lens(tuned, layer, hook))
    for method in lens.methods:
        linear = method in ("linear_vocab", "linear_hidden")
        modes: tuple[Mode, ...] = ("blind",) if linear else MODES
        if method == "learned_prompt":
            modes = lens.modes
        for mode in modes:
            for layer, hook in enumerate(lens.hooks):
                yield Arm(_NAMES[method][0], mode, hook, _of_method(lens, method, mode, layer))
            if not linear:
                yield Arm(_NAMES[method][1], mode, None, _of_method(lens, method, mode, NOWHERE))
    yield Arm(ITSELF, "fed", None, lambda x: logit_lens(lens.model, x.final))


def _of_logit_lens(lens: FutureLens, layer: int) -> Logits:
    return lambda examples: logit_lens(lens.model, examples.hidden[:, layer])[:, None]


def _of_tuned_lens(tuned: TunedLens, layer: int, hook: str) -> Logits:
    return lambda examples: tuned.logits(hook, examples.hidden[:, layer])[:, None]


def _of_method(lens: FutureLens, method: Method, mode: Mode, layer: int) -> Logits:
    return lambda examples: lens.predictions(method, mode, layer, examples)


@torch.no_grad()
def measure_table(
    lens: FutureLens,
    examples: Continuations,
    *,
    counted: CountedArms,
    tuned: TunedLens | None = None,
    reconstruct: Mapping[str, Reconstruct] | None = None,
    decoding: str,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> LensTable:
    """Precision and surprisal of every arm. At hooks in `reconstruct` lenses read what it makes of the states.

    Raises: ShapeError if a reconstruction is of a hook that the lens does not read.
    """
    seen = reconstructed(examples, reconstruct or {})
    rows: list[LensRow] = []
    arms = list(arms_of(lens, tuned))
    for done, arm in enumerate(arms, start=1):
        top = torch.cat([likeliest(arm.logits(chunk)) for chunk in _chunks(seen)])
        rows += _rows((arm.name, arm.mode, arm.hook), _hits(lens, top, examples), examples, seed)
        if on_progress is not None:
            on_progress(done, len(arms))
    for name, n_context in ((BIGRAM, 1), (TRIGRAM, 2)):
        for mode in MODES:
            top = counted.top(n_context, mode, examples)
            rows += _rows((name, mode, None), _hits(lens, top, examples), examples, seed)
    return LensTable(tuple(rows), lens.hooks, lens.n_distances, decoding, provenance or {})


def _chunks(examples: Continuations) -> Iterator[Continuations]:
    for first in range(0, len(examples), CHUNK):
        yield examples.take(slice(first, first + CHUNK))


def _hits(lens: FutureLens, top: Int[Tensor, "b n k"], examples: Continuations) -> Hits:
    """Chunk by chunk, since the model's own distributions are as large as the vocabulary."""
    found = []
    n = top.shape[1]
    for first, chunk in zip(range(0, len(examples), CHUNK), _chunks(examples), strict=True):
        log_p = logit_lens(lens.model, chunk.final[:, :n]).log_softmax(-1)
        found.append(score(top[first : first + CHUNK].to(log_p.device), chunk.tokens[:, :n], log_p))
    return Hits(torch.cat([hits.within for hits in found]), torch.cat([hits.surprisal for hits in found]))


def _rows(arm: tuple[str, Mode, str | None], hits: Hits, examples: Continuations, seed: int) -> list[LensRow]:
    found = []
    for n in range(hits.within.shape[1]):
        precision, surprisal, n_examples = figures_at(hits, examples, n, seed=seed)
        found.append(LensRow(*arm, n, precision, surprisal, n_examples))
    return found
