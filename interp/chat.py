"""Conversations: chat templates applied once, with the speaker of every token."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from transformers import PreTrainedTokenizerBase

from interp.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Message:
    """What one speaker says in one turn; role is usually system, user or assistant."""

    role: str
    content: str


class Conversation(str):
    """A document of several messages. As a string it is `role: content` line by line, which splits and hashes go by."""

    messages: tuple[Message, ...]

    def __new__(cls, messages: Sequence[Message]) -> "Conversation":
        """Raises: DataError if there are no messages."""
        if not messages:
            raise DataError("got a conversation without messages; leave the record out")
        conversation = super().__new__(cls, "\n".join(f"{m.role}: {m.content}" for m in messages))
        conversation.messages = tuple(messages)
        return conversation


def parse_conversation(records: Sequence[Any], where: str) -> Conversation:
    """A conversation from a list of {"role": …, "content": …}.

    Raises: DataError naming the place if a message is not of that form.
    """
    messages = []
    for record in records:
        role, content = (record.get(key) if isinstance(record, dict) else None for key in ("role", "content"))
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(f'{where}: got a message {str(record)[:80]}; expected {{"role": text, "content": text}}')
        messages.append(Message(role, content))
    if not messages:
        raise DataError(f"{where}: holds a conversation without messages; leave the record out")
    return Conversation(messages)


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A conversation as the model reads it, and the characters [start, end) of each message's own words."""

    text: str
    spans: tuple[tuple[int, int], ...]


# Private-use characters: no text has them, and no template changes them.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")

TODAY = date(2024, 7, 26)
"""What templates that print the date are told, so that the same text gives the same tokens on every day. Source: the
date in Llama 3's own template for where none is given."""

_DATE_FORMAT = re.compile(r"""strftime_now\(\s*['"](.+?)['"]""")
# In place of transformers' function, which asks the clock; another function cannot be handed to a template.
_TELL_TODAY = (
    "{% macro strftime_now(format) %}{% if format in dates %}{{ dates[format] }}"
    "{% else %}{{ raise_exception('a date format that is not written out') }}{% endif %}{% endmacro %}"
)


def template_facts(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """What a manifest records of the chat template: its hash, and the date that it is told."""
    template = json.dumps(tokenizer.chat_template, sort_keys=True)
    return {"content_hash": hashlib.sha256(template.encode()).hexdigest(), "date": TODAY.isoformat()}


def render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, where: str) -> RenderedChat:
    """Apply the tokenizer's chat template and find every message in it.

    The template is applied to numbered marks in place of the words; what it wrote around the marks is then its own.

    Raises: ConfigError if the tokenizer has no chat template; DataError if the template refuses the conversation or
    rewrites its messages, so that nobody's words can be told from its own.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "data.text_field: got conversations, but the model's tokenizer has no chat template; "
            "give a model tuned on chats, or plain text"
        )
    messages = conversation.messages
    marks = [_MARK.format(i) for i in range(len(messages))]
    text = _apply(tokenizer, messages, where)
    frame = _apply(tokenizer, [Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)], where)
    spans = _find(text, frame, [m.content for m in messages])
    if spans is None:
        raise DataError(
            f"{where}: the chat template rewrites these messages, so that their words cannot be found in what it "
            "wrote; leave the conversation out"
        )
    return RenderedChat(text, spans)


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], where: str) -> str:
    # No dependency of transformers', which needs it for templates alone.
    from jinja2.exceptions import TemplateError

    conversation = [{"role": m.role, "content": m.content} for m in messages]
    template = tokenizer.get_chat_template()
    dates = {date_format: TODAY.strftime(date_format) for date_format in _DATE_FORMAT.findall(template)}
    dated = _TELL_TODAY + template if "strftime_now" in template else template
    try:
        text = tokenizer.apply_chat_template(conversation, chat_template=dated, tokenize=False, dates=dates)
    except TemplateError as error:
        raise DataError(f"{where}: the chat template refuses this conversation ({error})") from None
    return str(text)


def _find(text: str, frame: str, said: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """Where in the text each message stands that the frame has a mark for; None if the text is not made like that.

    Templates trim some messages and others not. One that the template left out gets no characters.
    """
    before, *rest = _MARKS.split(frame)
    numbers, behind = [int(number) for number in rest[::2]], rest[1::2]
    if numbers != sorted(set(numbers)) or not text.startswith(before):
        return None
    spans, at = [(0, 0)] * len(said), len(before)
    for number, literal in zip(numbers, behind, strict=True):
        written = next((words for words in _trimmed(said[number]) if text.startswith(words + literal, at)), None)
        if written is None:
            return None
        spans[number] = (at, at + len(written))
        at += len(written) + len(literal)
    return tuple(spans) if at == len(text) else None


def _trimmed(words: str) -> Iterator[str]:
    """A message as templates write it, the longest first."""
    yield from (words, words.rstrip(), words.lstrip(), words.strip())


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, where: str
) -> tuple[list[int], list[str | None]]:
    """Token ids of the rendered conversation and who says each token; None for what the template wrote.

    A token that holds characters of both is the speaker's. The template's own BOS is among the tokens, once.

    Raises: as `render`; ConfigError if the tokenizer does not tell which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            "data.text_field: got conversations, but the model's tokenizer has no tokenizer.json and does not tell "
            "which characters a token stands for; save it with a fast tokenizer, or give plain text"
        )
    chat = render(tokenizer, conversation, where)
    encoded = tokenizer(chat.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    said = [(span, message.role) for span, message in zip(chat.spans, conversation.messages, strict=True)]
    roles: list[str | None] = []
    at = 0
    for start, end in encoded["offset_mapping"]:
        while at < len(said) and said[at][0][1] <= start:
            at += 1
        inside = at < len(said) and end > said[at][0][0] and end > start
        roles.append(said[at][1] if inside else None)
    return encoded["input_ids"], roles
