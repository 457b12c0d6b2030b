"""A state put into another context: the run reads it where the context's last token stands, and goes on from there.

Axes: r runs, t position, p tokens of the context, k read positions, d d_model, v vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ConfigError, ShapeError
from interp.hooks import Edit, edit
from interp.lenses.logit import unembed
from interp.models import Model

N_CONTEXT = 10
NOWHERE = -1
CONTEXTS = (
    "Hello! Please say a little more about what comes next in the text after this:",
    "Here are a few words that belong together and that you should go on with:",
    "She looked at the page, took a deep breath and began to read aloud:",
    "The things that this short passage speaks of are told in these words:",
)
"""Generic contexts; each is used for a quarter of the examples, so that none decides alone."""


@dataclass(frozen=True, slots=True)
class Transplants:
    """Runs of one forward pass, each with its own context and its own state to put into it.

    Shapes: token_ids (r, t), of which the first p are the context; read_at (r, k), where logits are read; place (r,),
    the index of the hook at which hidden (r, d) replaces position p - 1, or NOWHERE; prompt (r, p, d), soft embeddings
    instead of the context's tokens, or None.
    """

    token_ids: Int[Tensor, "r t"]
    read_at: Int[Tensor, "r k"]
    place: Int[Tensor, " r"]
    hidden: Float[Tensor, "r d"]
    n_context: int
    prompt: Float[Tensor, "r p d"] | None = None


def transplanted_logits(model: Model, hooks: Sequence[str], runs: Transplants) -> Float[Tensor, "r k v"]:
    """Next-token logits at the places where the runs are read. Differentiable in prompt and hidden.

    Raises: ShapeError if context and fed tokens are longer than the model's own context.
    """
    if runs.token_ids.shape[1] > model.context_size:
        raise ShapeError(
            f"got runs of {runs.token_ids.shape[1]} tokens; {model.name} reads {model.context_size}; "
            "give fewer distances"
        )
    edits: dict[str, Edit] = {} if runs.prompt is None else {"hook_embed": _in_front(runs.prompt)}
    for index in runs.place.unique().tolist():
        if index != NOWHERE:
            edits[hooks[index]] = _at(runs, (runs.place == index).nonzero()[:, 0])
    with edit(model, edits):
        # The final norm is part of the body.
        states: Tensor = model.hf.base_model(runs.token_ids, use_cache=False).last_hidden_state
    rows = torch.arange(len(states), device=states.device)[:, None]
    return unembed(model, states[rows, runs.read_at])


def _in_front(prompt: Float[Tensor, "r p d"]) -> Edit:
    def place(x: Tensor) -> Tensor:
        return torch.cat([prompt.to(x.dtype), x[:, prompt.shape[1] :]], dim=1)

    return place


def _at(runs: Transplants, rows: Int[Tensor, " m"]) -> Edit:
    def place(x: Tensor) -> Tensor:
        x[rows, runs.n_context - 1] = runs.hidden[rows].to(x.dtype)
        return x

    return place


def fixed_contexts(model: Model, texts: Sequence[str] = CONTEXTS) -> Int[Tensor, "m p"]:
    """Texts as contexts of ten tokens each: BOS, where the model has one, and the last tokens of the text.

    Raises: ConfigError if a text has fewer.
    """
    begin = [] if model.bos_token_id is None else [model.bos_token_id]
    room = N_CONTEXT - len(begin)
    found = []
    for text in texts:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) < room:
            raise ConfigError(f"future.contexts: {text!r} has {len(ids)} tokens; expected at least {room}; lengthen it")
        found.append([*begin, *ids[-room:]])
    if not found:
        raise ConfigError("future.contexts: got none; give at least one text")
    return torch.tensor(found, device=model.device)


def self_fed(model: Model, hooks: Sequence[str], runs: Transplants, n_distances: int) -> Float[Tensor, "r n v"]:
    """Logits at each distance where the run reads nothing but its own likeliest tokens."""
    own, found = runs.token_ids[:, : runs.n_context], []
    for _ in range(n_distances):
        at = torch.full((len(own), 1), own.shape[1] - 1, device=own.device)
        one = Transplants(own, at, runs.place, runs.hidden, runs.n_context, runs.prompt)
        logits = transplanted_logits(model, hooks, one)
        found.append(logits)
        own = torch.cat([own, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return torch.cat(found, dim=1)


def in_chunks(
    function: Callable[[Int[Tensor, " m"]], Float[Tensor, "m *rest"]], n: int, size: int, device: torch.device
) -> Float[Tensor, "n *rest"]:
    """A function of rows, applied to `size` of them at a time."""
    return torch.cat([function(rows) for rows in torch.arange(n, device=device).split(size)])
