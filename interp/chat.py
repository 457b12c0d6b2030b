"""Conversations: chat templates applied once, with the speaker of every token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
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
    for said in ([m.content for m in messages], [m.content.strip() for m in messages]):
        filled, spans = _fill(frame, marks, said)
        if filled == text:
            return RenderedChat(text, spans)
    raise DataError(
        f"{where}: the chat template rewrites these messages, so that their words cannot be found in what it wrote; "
        "leave the conversation out"
    )


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], where: str) -> str:
    try:
        text = tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in messages], tokenize=False)
    except TemplateError as error:
        raise DataError(f"{where}: the chat template refuses this conversation ({error})") from None
    return str(text)


def _fill(frame: str, marks: Sequence[str], said: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The frame with what was said in place of its marks; a mark that the template left out gets no characters."""
    text, spans, at = "", [], 0
    for mark, words in zip(marks, said, strict=True):
        found = frame.find(mark, at)
        if found < 0:
            spans.append((len(text), len(text)))
            continue
        text += frame[at:found]
        spans.append((len(text), len(text) + len(words)))
        text += words
        at = found + len(mark)
    return text + frame[at:], tuple(spans)


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, where: str
) -> tuple[list[int], list[str | None]]:
    """Token ids of the rendered conversation and who says each token; None for what the template wrote.

    A token that holds characters of both is the speaker's. The template's own BOS is among the tokens, once.

    Raises: as `render`.
    """
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
