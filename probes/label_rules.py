"""Labels made on the spot: by a rule on the text, the next token, or what another model says.

Axes: t position.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch

from interp.chat import Conversation, render
from interp.documents import open_documents
from interp.errors import ConfigError
from interp.models import Model
from probes.probe_labels import LabelledText, Place

_WORD = re.compile(r"\w+")
NO, YES = "no", "yes"
Span = tuple[int, int]


def readable_texts(
    model: Model, dataset: str, *, n: int, text_field: str = "text", roles: Sequence[str] = ()
) -> list[LabelledText]:
    """The first n documents as the model reads them, each one place for every stretch that may be labelled.

    Plain text is one stretch. A conversation is written by the model's chat template, and what its speakers say, or
    those in `roles`, are the stretches. Documents are cut where the model's context ends.

    Raises: DataError if the data set cannot be read; ConfigError if it holds conversations and there is no template.
    """
    found: list[LabelledText] = []
    for number, text in open_documents(dataset, text_field=text_field).iter_from():
        if len(found) == n:
            break
        if not text.strip():
            continue
        written, spans = _written(model, text, roles, f"{dataset}, document {number}")
        end = _end_of_context(model, written)
        places = tuple(Place(start, min(stop, end), "", {}) for start, stop in spans if start < min(stop, end))
        found.append(LabelledText(written[:end], text, places))
    return found


def _written(model: Model, text: str, roles: Sequence[str], where: str) -> tuple[str, list[Span]]:
    if isinstance(text, Conversation):
        chat = render(model.tokenizer, text, where)
        said = zip(chat.spans, text.messages, strict=True)
        return chat.text, [span for span, message in said if not roles or message.role in roles]
    if roles:
        raise ConfigError(f"labels.roles: {where} is plain text, of which no speaker can be chosen; leave roles out")
    return text, [(0, len(text))]


def _end_of_context(model: Model, text: str) -> int:
    """Characters that fit the context with the model's frame around them."""
    offsets = token_spans(model, text)
    room = model.context_size - (model.frame.begin is not None) - (model.frame.end is not None)
    return len(text) if len(offsets) <= room else offsets[room - 1][1]


def token_spans(model: Model, text: str) -> list[Span]:
    """Characters of each token of a text, without any frame.

    Raises: ConfigError if the tokenizer does not tell.
    """
    if not model.tokenizer.is_fast:
        raise ConfigError(
            f"{model.name}: its tokenizer does not tell which characters a token stands for; save it fast"
        )
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [(int(start), int(end)) for start, end in encoded["offset_mapping"]]


def by_pattern(texts: Iterable[LabelledText], pattern: str, *, name: str = "match") -> list[LabelledText]:
    """Words that lie in a match of a regular expression are "yes", all others "no"; with a named group `label`, words
    in a match get that group's text and others no label.

    Raises: ConfigError if the expression is malformed.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"labels.pattern: got {pattern!r}, which is no regular expression ({error})") from None
    labelled = "label" in expression.groupindex

    def label_of(text: str) -> Iterator[tuple[Span, str]]:
        matches = [(match.span(), match["label"] if labelled else YES) for match in expression.finditer(text)]
        for word in _WORD.finditer(text):
            inside = (label for span, label in matches if span[0] <= word.start() and word.end() <= span[1])
            label = next(inside, None if labelled else NO)
            if label is not None:
                yield word.span(), label

    return [_placed(text, name, label_of(text.text)) for text in texts]


def by_first_letter(texts: Iterable[LabelledText], *, name: str = "first letter") -> list[LabelledText]:
    """Words that begin with a letter, labelled by it, case aside."""
    return [
        _placed(text, name, ((w.span(), w[0][0].lower()) for w in _WORD.finditer(text.text) if w[0][0].isalpha()))
        for text in texts
    ]


def by_next_token(model: Model, texts: Iterable[LabelledText], *, name: str = "next token") -> list[LabelledText]:
    """Every token, labelled by the token that follows, as it is written."""
    found = []
    for text in texts:
        spans = token_spans(model, text.text)
        pairs = pairwise(spans)
        found.append(
            _placed(text, name, ((here, text.text[slice(*after)]) for here, after in pairs if here[1] > here[0]))
        )
    return found


@torch.no_grad()
def by_other_model(other: Model, texts: Iterable[LabelledText], *, name: str = "other model") -> list[LabelledText]:
    """Every token of another model, labelled by the token that it thinks likeliest to follow.

    The two need not share a tokenizer: places are characters.

    Raises: ConfigError if the other model is an encoder, which predicts no next token.
    """
    if not other.causal:
        raise ConfigError(
            f"labels.other_model: got {other.name}, an encoder, which predicts no next token; give another"
        )
    begin = [] if other.frame.begin is None else [other.frame.begin]
    found = []
    for text in texts:
        spans = token_spans(other, text.text)[: other.context_size - len(begin)]
        ids = other.tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"][: len(spans)]
        rows = torch.tensor([[*begin, *ids]], device=other.device)
        answers = other.hf(rows).logits[0, len(begin) :].argmax(-1).tolist()
        said = (str(other.tokenizer.decode([answer])) for answer in answers)
        found.append(_placed(text, name, ((s, label) for s, label in zip(spans, said, strict=True) if s[1] > s[0])))
    return found


def _placed(text: LabelledText, name: str, labels: Iterable[tuple[Span, str]]) -> LabelledText:
    """Labels of what lies in one of the text's stretches; blanks around a token are none of its word."""
    places = []
    for (start, end), label in labels:
        word = text.text[start:end].strip().lower()
        if word and any(held.start <= start and end <= held.end for held in text.places):
            places.append(Place(start, end, word, {name: label}))
    return LabelledText(text.text, text.document, tuple(places))
