"""A token as the text that it adds behind another."""

from typing import Any


def token_text(tokenizer: Any, token: int) -> str:
    """What a token adds to a text, the space that begins a word included.

    A decoder drops that space at the start of a text (SentencePiece, WordPiece), so that "she" and " she" look alike
    there; it stands where the token comes behind itself. Special tokens are as they are written.
    """
    alone = str(tokenizer.decode([token]))
    if token in tokenizer.all_special_ids:
        return alone
    twice = str(tokenizer.decode([token, token]))
    return twice[len(alone) :] if twice.startswith(alone) and twice != alone else alone
