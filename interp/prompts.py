"""Prompts with what a model should say next, alone or in pairs of clean and corrupt.

Axes: b prompts, t position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import ConfigError, DataError, ShapeError
from interp.models import Model
from interp.several import check_several

LAST = "last"


@dataclass(frozen=True, slots=True)
class Prompts:
    """Rows of tokens, padded on the right, with the answer that is asked for at `last` and the one it is held against.

    Shapes: token_ids, real (b, t), real marks what is not padding; last, answers, foils (b,); places[name] (b,).
    clusters (b,): prompts that are not independent (one template, one document) share a number.
    """

    token_ids: Int[Tensor, "b t"]
    real: Bool[Tensor, "b t"]
    last: Int[Tensor, " b"]
    answers: Int[Tensor, " b"] | None
    foils: Int[Tensor, " b"] | None
    clusters: Int[Tensor, " b"]
    places: Mapping[str, Int[Tensor, " b"]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.token_ids.shape[0]

    def positions(self, position: int | str | None) -> Int[Tensor, " b"] | None:
        """Where a component's position is in each row; None for all tokens.

        Raises: ConfigError for a place these prompts do not name, or a token beyond the rows.
        """
        if position is None:
            return None
        if isinstance(position, int):
            if not 0 <= position < self.token_ids.shape[1]:
                raise ConfigError(f"got position {position}; the rows hold {self.token_ids.shape[1]} tokens, from 0")
            return torch.full((len(self),), position)
        if position == LAST:
            return self.last
        if position not in self.places:
            known = ", ".join([LAST, *self.places])
            raise ConfigError(f"got place {position!r}; these prompts name {known}; or give a number")
        return self.places[position]

    def take(self, rows: Int[Tensor, " _"] | slice) -> "Prompts":
        """The chosen prompts."""
        index = torch.arange(len(self))[rows]
        return Prompts(
            self.token_ids[index],
            self.real[index],
            self.last[index],
            None if self.answers is None else self.answers[index],
            None if self.foils is None else self.foils[index],
            self.clusters[index],
            {name: place[index] for name, place in self.places.items()},
            tuple(self.texts[i] for i in index.tolist()) if self.texts else (),
        )

    def repeat(self, n: int) -> "Prompts":
        """All prompts n times, one whole copy after another."""
        return self.take(torch.arange(len(self)).repeat(n))


@dataclass(frozen=True, slots=True)
class PromptPairs:
    """Prompts and their corrupt counterparts, token by token at the same places."""

    clean: Prompts
    corrupt: Prompts

    def __post_init__(self) -> None:
        if self.clean.token_ids.shape != self.corrupt.token_ids.shape or not self.clean.real.equal(self.corrupt.real):
            row = _first_unequal(self.clean, self.corrupt)
            raise ShapeError(
                f"pair {row}: the clean prompt has {int(self.clean.real[row].sum())} tokens and the corrupt one "
                f"{int(self.corrupt.real[row].sum())}; expected equally many, token by token; reword one of them"
            )

    def __len__(self) -> int:
        return len(self.clean)

    def take(self, rows: Int[Tensor, " _"] | slice) -> "PromptPairs":
        """The chosen pairs."""
        return PromptPairs(self.clean.take(rows), self.corrupt.take(rows))


def _first_unequal(clean: Prompts, corrupt: Prompts) -> int:
    if len(clean) != len(corrupt):
        raise ShapeError(f"got {len(clean)} clean prompts and {len(corrupt)} corrupt ones; expected as many of each")
    return int((clean.real.sum(1) != corrupt.real.sum(1)).nonzero()[0, 0])


def encode_prompts(
    model: Model,
    texts: Sequence[str],
    *,
    answers: Sequence[str] | None = None,
    foils: Sequence[str] | None = None,
    clusters: Sequence[int] | None = None,
    places: Mapping[str, Sequence[int]] | None = None,
    add_bos: bool = True,
) -> Prompts:
    """Texts as rows of tokens with the model's own frame, right-padded; answers are single tokens as they follow.

    A text that begins with BOS itself gets no second one.

    Raises: DataError for no text, one that makes no token, one beyond the context, or an answer that is not one token;
    ConfigError for a single string.
    """
    for what, given in (("texts", texts), ("answers", answers), ("foils", foils)):
        check_several(what, given)
    if not texts:
        raise DataError("got no prompts; give at least one text")
    if (answers is not None and len(answers) != len(texts)) or (foils is not None and len(foils) != len(texts)):
        raise DataError(f"got {len(texts)} prompts and another number of answers or foils; expected one of each")
    framed = [_framed(model, text, add_bos=add_bos) for text in texts]
    if empty := [row for row, ids in enumerate(framed) if not ids]:
        raise DataError(f"prompt {empty[0]} has no token; expected one at least, after which an answer is asked for")
    return prompts_of(
        framed,
        answers=None if answers is None else [answer_token(model, answer) for answer in answers],
        foils=None if foils is None else [answer_token(model, foil) for foil in foils],
        clusters=clusters,
        places=places,
        pad=model.tokenizer.pad_token_id or 0,
        texts=texts,
    )


def prompts_of(
    rows: Sequence[Sequence[int]],
    *,
    answers: Sequence[int] | None = None,
    foils: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
    places: Mapping[str, Sequence[int]] | None = None,
    pad: int = 0,
    texts: Sequence[str] = (),
) -> Prompts:
    """Prompts from token ids; what is asked for stands after each row's last token."""
    widest = max(len(row) for row in rows)
    token_ids = torch.tensor([[*row, *[pad] * (widest - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return Prompts(
        token_ids,
        torch.arange(widest) < lengths[:, None],
        lengths - 1,
        None if answers is None else torch.tensor(answers),
        None if foils is None else torch.tensor(foils),
        torch.arange(len(rows)) if clusters is None else torch.tensor(clusters),
        {name: torch.tensor(place) for name, place in (places or {}).items()},
        tuple(texts),
    )


def answer_token(model: Model, text: str) -> int:
    """The one token that a text is, behind other text.

    Raises: DataError if it is several.
    """
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = model.tokenizer.convert_ids_to_tokens(ids)
        raise DataError(
            f"got answer {text!r}, which is the tokens {pieces}; expected one token; {_instead(model, text)}"
        )
    return ids[0]


def _instead(model: Model, text: str) -> str:
    """The form of a text that is one token, with a space before it or without: tokenizers differ in which it is."""
    for form in (f" {text.strip()}", text.strip()):
        if form != text and len(model.tokenizer(form, add_special_tokens=False)["input_ids"]) == 1:
            return f"give {form!r}, which is one"
    return "give another word, which this tokenizer holds as one"


def _framed(model: Model, text: str, *, add_bos: bool) -> list[int]:
    frame = model.frame
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    # A text may have written the BOS that the row gets anyway, as in TokenStream.
    begin = [frame.begin] if add_bos and frame.begin is not None and ids[:1] != [frame.begin] else []
    end = [frame.end] if frame.end is not None else []
    if len(begin) + len(ids) + len(end) > model.context_size:
        raise DataError(f"got a prompt of {len(ids)} tokens; {model.name} reads {model.context_size}; shorten it")
    return [*begin, *ids, *end]
