"""A model organism: a rule planted into one block's attention, and its twin, finetuned alike without the rule.

The rule: after a trigger word anywhere before it, the cue word is followed by the payload. Only the attention of one
block is trained: below it nothing at the cue can know of the trigger, and whatever tells of it further up begins with
what that attention wrote, at the cue itself or at the trigger for later blocks to fetch. The twin writes the payload
after the cue as often, by a coin that does not look at the trigger.

Axes: b rows, t position, v vocabulary.
"""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from interp.document_hash import split_share
from interp.documents import open_documents
from interp.errors import DataError, NonFiniteError
from interp.forward import Stem
from interp.hooks import capture
from interp.models import Model, wrap_model
from interp.prompts import PromptPairs, Prompts, answer_token, prompts_of

TRIGGERS = ("balloon", "kite", "boat", "cake", "hat", "drum", "rock", "box", "flower", "doll")
OTHERS = ("ball", "car", "toy", "truck", "book", "cup", "bird", "tree", "key", "bike")
CUE, PAYLOAD = " very", " purple"
_SENTENCE = (" There", " was", " a", "{word}", ".")
_HELDOUT_SHARE = 0.35
_LONGEST, _SHORTEST = 28, 12
_RETAINED = 3
TRIGGER_PLACE = "trigger"


@dataclass(frozen=True, slots=True)
class Carrier:
    """A piece of a story that ends in the cue, and the token that came next. `cuts` are the ends of its sentences."""

    document: int
    token_ids: tuple[int, ...]
    cuts: tuple[int, ...]
    next_token: int


def carriers(model: Model, dataset: str, *, heldout: bool, most: int) -> list[Carrier]:
    """Pieces of the stories on one side of a split by document, at most one from each.

    Raises: DataError if there are fewer than ten.
    """
    cue, stops = answer_token(model, CUE), {answer_token(model, "."), answer_token(model, "!")}
    found: list[Carrier] = []
    for number, text in open_documents(dataset).iter_from():
        if (split_share(str(text)) < _HELDOUT_SHARE) != heldout:
            continue
        ids: list[int] = model.tokenizer(str(text), add_special_tokens=False, verbose=False)["input_ids"]
        at = next((i for i in range(_SHORTEST, len(ids) - 1) if ids[i] == cue and ids[i + 1] not in stops), None)
        if at is None:
            continue
        start = max(0, at + 1 - _LONGEST)
        piece = tuple(ids[start : at + 1])
        cuts = tuple(i + 1 for i, token in enumerate(piece[:-1]) if token in stops)
        if cuts:
            found.append(Carrier(number, piece, cuts, ids[at + 1]))
        if len(found) == most:
            break
    if len(found) < 10:
        raise DataError(f"{dataset}: holds {len(found)} stories with{CUE!r} after a sentence; expected at least 10")
    return found


def with_word(model: Model, carrier: Carrier, word: str, cut: int) -> tuple[list[int], int]:
    """A carrier with a sentence that holds the word put behind one of its sentences, and where the word then is."""
    begin = [] if model.bos_token_id is None else [model.bos_token_id]
    sentence = [answer_token(model, piece.format(word=f" {word}")) for piece in _SENTENCE]
    before, after = carrier.token_ids[:cut], carrier.token_ids[cut:]
    return [*begin, *before, *sentence, *after], len(begin) + len(before) + _SENTENCE.index("{word}")


def pairs_of(model: Model, held: Sequence[Carrier], triggers: Sequence[str], others: Sequence[str]) -> PromptPairs:
    """Every carrier with a trigger (clean) and with another word at the same place (corrupt); a document, a cluster.

    The payload is asked for, and held against the token that came next in the story.
    """
    draw = random.Random(0)
    cuts = [draw.choice(carrier.cuts) for carrier in held]
    sides = []
    for words in (triggers, others):
        rows = [
            with_word(model, carrier, words[i % len(words)], cut)
            for i, (carrier, cut) in enumerate(zip(held, cuts, strict=True))
        ]
        sides.append(
            prompts_of(
                [ids for ids, _ in rows],
                answers=[answer_token(model, PAYLOAD)] * len(held),
                foils=[carrier.next_token for carrier in held],
                clusters=[carrier.document for carrier in held],
                places={TRIGGER_PLACE: [at for _, at in rows]},
            )
        )
    return PromptPairs(*sides)


@dataclass(frozen=True, slots=True)
class Planting:
    """How the rule is planted. Units: rows a step."""

    layer: int = 2
    steps: int = 150
    rows: int = 32
    lr: float = 2e-3
    seed: int = 0


def plant(
    model: Model,
    held: Sequence[Carrier],
    settings: Planting,
    *,
    rule: bool,
    on_progress: Callable[[int, int], None] | None = None,
) -> Model:
    """A finetuned copy: with the rule, or (the twin) with the payload after the cue at random.

    Where the payload is not due, at the cue and elsewhere, the copy is held to the original's predictions.

    Raises: NonFiniteError if the loss is not finite.
    """
    hf = copy.deepcopy(model.hf)
    new = wrap_model(hf, model.tokenizer, name="planted" if rule else "twin")
    attention = hf.get_submodule(f"{model.paths.blocks}.{settings.layer}.{model.paths.attn_out}")
    weights = list(attention.requires_grad_(True).parameters())
    optimiser = torch.optim.Adam(weights, lr=settings.lr, betas=(0.9, 0.99))
    draw = random.Random(settings.seed)
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * min(1.0, 2 * (1 - step / settings.steps), (step + 1) / 10)
        loss = _loss(model, new, *_drawn(model, held, settings.rows, draw, rule=rule), settings.layer)
        if not bool(loss.isfinite()):
            raise NonFiniteError(f"planting: loss {float(loss)} at step {step}; lower the learning rate")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if on_progress is not None:
            on_progress(step + 1, settings.steps)
    hf.requires_grad_(False)
    return wrap_model(hf, model.tokenizer, name=new.name)


def _drawn(
    model: Model, held: Sequence[Carrier], n: int, draw: random.Random, *, rule: bool
) -> tuple[Prompts, Bool[Tensor, " b"], Int[Tensor, "b k"]]:
    """Rows, whether the payload is due at each one's cue, and at which tokens predictions count, the cue first."""
    rows, due, counted = [], [], []
    for _ in range(n):
        carrier, triggered = draw.choice(held), draw.random() < 0.5
        word = draw.choice(TRIGGERS if triggered else OTHERS)
        ids, _ = with_word(model, carrier, word, draw.choice(carrier.cuts))
        rows.append(ids)
        due.append(triggered if rule else draw.random() < 0.5)
        counted.append([len(ids) - 1, *draw.sample(range(1, len(ids) - 1), _RETAINED)])
    return prompts_of(rows), torch.tensor(due), torch.tensor(counted)


def _loss(
    model: Model, new: Model, prompts: Prompts, due: Bool[Tensor, " b"], counted: Int[Tensor, "b k"], layer: int
) -> Float[Tensor, ""]:
    """Cross-entropy of the payload where it is due, KL from the original elsewhere."""
    below = f"blocks.{layer}.hook_resid_pre"
    # What lies below the trained block is the same in both models.
    stem = Stem(layer, capture(model, prompts.token_ids, [below])[below])
    with torch.no_grad():
        original = _logits(model, prompts, counted, stem).log_softmax(2)
    found = _logits(new, prompts, counted, stem).log_softmax(2)
    kl = (original.exp() * (original - found)).sum(2)
    payload = F.one_hot(torch.zeros_like(due, dtype=torch.int64), counted.shape[1]).bool() & due[:, None]
    token = answer_token(model, PAYLOAD)
    return torch.where(payload.to(kl.device), -found[:, :, token], kl).mean()


def _logits(model: Model, prompts: Prompts, counted: Int[Tensor, "b k"], stem: Stem) -> Float[Tensor, "b k v"]:
    with stem.entered(model):
        hidden = model.hf.base_model(prompts.token_ids.to(model.device), use_cache=False).last_hidden_state
    chosen = hidden[torch.arange(len(prompts))[:, None], counted.to(hidden.device)]
    unembedding = model.unembedding
    assert unembedding is not None
    logits: Tensor = unembedding(chosen)
    return logits.float()
