"""What every layer says at every token of a text: the grid of the Future Lens paper.

Axes: l layers (hooks), t positions, n distances (0: the next token), k predicted tokens.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from interp.errors import ArtifactError, DataError, ShapeError
from interp.hooks import capture
from interp.lenses.continuations import N_LAST, Continuations
from interp.lenses.future import FutureLens, Method
from interp.lenses.logit import Reconstruct, lens_hooks, logit_lens
from interp.lenses.tuned import TunedLens
from interp.models import Model
from interp.storage import read_json, write_json
from interp.token_text import token_text

SCHEMA_VERSION = 1
N_SHOWN = 5


@dataclass(frozen=True, slots=True)
class LensGrid:
    """The likeliest tokens at each layer, position and distance, with their probabilities.

    Shapes: top, probability (l, t, n, k); tokens, texts of the positions (t,); vocabulary: texts of the token ids that
    the grid names. The future tokens at a position are the n + 1 that the lens expects behind it.
    """

    method: str
    hooks: tuple[str, ...]
    tokens: tuple[int, ...]
    top: Int[ndarray, "l t n k"]
    probability: Float[ndarray, "l t n k"]
    vocabulary: Mapping[int, str]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.top.shape != self.probability.shape or self.top.shape[:2] != (len(self.hooks), len(self.tokens)):
            raise ShapeError(
                f"got predictions of shape {self.top.shape} and {self.probability.shape}; expected "
                f"({len(self.hooks)} hooks, {len(self.tokens)} tokens, distances, likeliest tokens)"
            )

    @property
    def n_distances(self) -> int:
        return int(self.top.shape[2])

    @property
    def mean_probability(self) -> Float[ndarray, "l t"]:
        """Mean over distances of the likeliest token's probability."""
        mean: Float[ndarray, "l t"] = self.probability[..., 0].mean(-1)
        return mean

    def text(self, token: int) -> str:
        """What a token id adds to a text."""
        return self.vocabulary.get(token, f"⟨{token}⟩")

    def to_json(self) -> dict[str, Any]:
        """Plain values; probabilities to five places."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "lens_grid",
            "method": self.method,
            "hooks": list(self.hooks),
            "tokens": list(self.tokens),
            "top": self.top.tolist(),
            "probability": self.probability.astype(np.float64).round(5).tolist(),
            "vocabulary": {str(token): text for token, text in self.vocabulary.items()},
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def from_json(held: Mapping[str, Any], where: str = "lens grid") -> "LensGrid":
        """From `to_json`'s values.

        Raises: ArtifactError if they are of another kind or version, or damaged.
        """
        if held.get("kind") != "lens_grid" or held.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{where}: is no lens grid of version {SCHEMA_VERSION}; apply the lens again")
        try:
            return LensGrid(
                held["method"],
                tuple(held["hooks"]),
                tuple(held["tokens"]),
                np.array(held["top"], dtype=np.int64),
                np.array(held["probability"], dtype=np.float64),
                {int(token): text for token, text in held["vocabulary"].items()},
                held["provenance"],
            )
        except (KeyError, TypeError, ValueError, ShapeError):
            raise ArtifactError(f"{where}: is damaged; apply the lens again") from None

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @staticmethod
    def load(path: Path) -> "LensGrid":
        """Read what `save` wrote.

        Raises: ArtifactError if the file is missing, damaged or of another kind.
        """
        return LensGrid.from_json(read_json(path), str(path))

    def _repr_html_(self) -> str:
        """The likeliest tokens as a table, last layer first."""
        head = "".join(f"<th>{html.escape(self.text(token))}</th>" for token in self.tokens)
        lines = "".join(
            f"<tr><td>{html.escape(hook)}</td>"
            + "".join(f"<td>{html.escape(self.text(int(token)))}</td>" for token in self.top[layer, :, 0, 0])
            + "</tr>"
            for layer, hook in reversed(list(enumerate(self.hooks)))
        )
        caption = f"{html.escape(self.method)}: likeliest next token"
        return (
            f"<table><caption>{caption}</caption><thead><tr><th></th>{head}</tr></thead><tbody>{lines}</tbody></table>"
        )


def encode_text(model: Model, text: str, *, cut: bool = False) -> Int[Tensor, "1 t"]:
    """A text's tokens behind BOS; `cut`: as many of them as the model reads.

    Raises: DataError if it is empty or longer than the model reads.
    """
    ids = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    begin = [] if model.bos_token_id is None else [model.bos_token_id]
    ids = ids[: model.context_size - len(begin)] if cut else ids
    n = len(begin) + len(ids)
    if not ids:
        raise DataError("--text: got no token; give some text")
    if n > model.context_size:
        raise DataError(f"--text: got {n} tokens; expected 1 to {model.context_size}, BOS included; give other text")
    return torch.tensor([[*begin, *ids]], device=model.device)


def read_logit(
    model: Model, token_ids: Int[Tensor, "b t"], *, reconstruct: Mapping[str, Reconstruct] | None = None, **facts: Any
) -> LensGrid:
    """The logit lens at every layer and token of one text, a row of its own.

    Raises: ShapeError for several rows, whose grids are read one by one.
    """
    hooks = lens_hooks(model)
    return _grid(model, token_ids, hooks, lambda _, x: logit_lens(model, x), reconstruct, "logit lens", facts)


def read_tuned(
    lens: TunedLens,
    token_ids: Int[Tensor, "b t"],
    *,
    reconstruct: Mapping[str, Reconstruct] | None = None,
    **facts: Any,
) -> LensGrid:
    """The tuned lens at every layer that it was trained for, the last one too, and every token of one text.

    Raises: ShapeError for several rows.
    """
    hooks = (*lens.hooks, lens.teacher_hook)
    return _grid(lens.model, token_ids, hooks, lens.logits, reconstruct, "tuned lens", facts)


@torch.no_grad()
def read_future(
    lens: FutureLens,
    token_ids: Int[Tensor, "b t"],
    *,
    method: Method,
    reconstruct: Mapping[str, Reconstruct] | None = None,
    **facts: Any,
) -> LensGrid:
    """What a method, blind, reads from every state of a text.

    Raises: ConfigError if the lens lacks the method, or prompts for blind reading; ShapeError for several rows.
    """
    acts = _states(lens.model, token_ids, lens.hooks, reconstruct)
    examples = _as_examples(lens, token_ids, acts)
    parts = []
    for layer in range(len(lens.hooks)):
        chunks = [examples.take(slice(first, first + 64)) for first in range(0, len(examples), 64)]
        parts.append(torch.cat([lens.predictions(method, "blind", layer, chunk) for chunk in chunks]))
    return _of_logits(lens.model, token_ids, lens.hooks, torch.stack(parts), method.replace("_", " "), facts)


def _as_examples(lens: FutureLens, token_ids: Tensor, acts: Mapping[str, Tensor]) -> Continuations:
    """States alone: what a blind method reads. The rest is empty."""
    n, d, device = token_ids.shape[1], lens.model.d_model, token_ids.device
    nothing = torch.zeros(n, lens.n_distances, dtype=torch.int64, device=device)
    last = token_ids[0, :, None].expand(-1, N_LAST)
    hidden = torch.stack([acts[hook][0] for hook in lens.hooks], dim=1).float()
    final = torch.zeros(n, lens.n_distances, d, device=device)
    return Continuations(lens.hooks, hidden, nothing, final, nothing == 0, last, nothing[:, 0])


@torch.no_grad()
def _grid(
    model: Model,
    token_ids: Tensor,
    hooks: Sequence[str],
    logits: Callable[[str, Tensor], Tensor],
    reconstruct: Mapping[str, Reconstruct] | None,
    method: str,
    facts: Mapping[str, Any],
) -> LensGrid:
    acts = _states(model, token_ids, hooks, reconstruct)
    found = torch.stack([logits(hook, acts[hook][0])[:, None] for hook in hooks])
    return _of_logits(model, token_ids, hooks, found, method, facts)


def _states(
    model: Model, token_ids: Tensor, hooks: Sequence[str], reconstruct: Mapping[str, Reconstruct] | None
) -> dict[str, Tensor]:
    if token_ids.shape[0] != 1:
        raise ShapeError(f"token_ids: got {token_ids.shape[0]} rows; expected 1, a text; read rows one by one")
    acts = capture(model, token_ids, hooks)
    for hook, function in (reconstruct or {}).items():
        if hook not in acts:
            raise ShapeError(f"got a reconstruction of {hook}; the lens reads {', '.join(hooks)}")
        # SAEs leave BOS out of training; its state stays as it is.
        kept = (token_ids == model.bos_token_id)[..., None] if model.bos_token_id is not None else False
        acts[hook] = torch.where(torch.as_tensor(kept), acts[hook], function(acts[hook][0])[None])
    return acts


def _of_logits(
    model: Model,
    token_ids: Tensor,
    hooks: Sequence[str],
    logits: Float[Tensor, "l t n v"],
    method: str,
    facts: Mapping[str, Any],
) -> LensGrid:
    found = logits.softmax(-1).topk(min(N_SHOWN, logits.shape[-1]), dim=-1)
    top, probability = found.indices.cpu().numpy(), found.values.double().cpu().numpy()
    tokens = tuple(token_ids[0].tolist())
    named = sorted({*tokens, *np.unique(top).tolist()})
    vocabulary = {token: token_text(model.tokenizer, token) for token in named}
    return LensGrid(method, tuple(hooks), tokens, top, probability, vocabulary, {"model": model.name, **facts})
