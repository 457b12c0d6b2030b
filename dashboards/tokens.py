"""Token ids as the text they stand for, so that a page needs no tokenizer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.errors import ArtifactError
from interp.storage import read_json, write_json

VOCABULARY_FILE = "vocabulary.json"


def token_texts(tokenizer: Any) -> list[str]:
    """What each token id adds to a text: real spaces and newlines, bytes of split characters as `⟨E2⟩`.

    Source: the byte alphabet of GPT-2 (Radford et al. 2019); `▁` and `<0x0A>` of SentencePiece; `##` of WordPiece.
    """
    size = len(tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
    literal = set(getattr(tokenizer, "added_tokens_decoder", {}))
    kinds = _decoder_kinds(tokenizer)
    return [
        _text_of("" if piece is None else piece, kinds, literal=index in literal) for index, piece in enumerate(pieces)
    ]


def save_token_texts(features_folder: Path, tokenizer: Any) -> Path:
    """Write vocabulary.json beside the feature statistics.

    Raises: StorageError if the folder cannot be written.
    """
    path = features_folder / VOCABULARY_FILE
    write_json(path, [text.encode("utf-8", "replace").decode() for text in token_texts(tokenizer)])
    return path


def load_token_texts(features_folder: Path) -> list[str] | None:
    """The texts that `save_token_texts` wrote; None if it never ran.

    Raises: ArtifactError if the file is damaged.
    """
    path = features_folder / VOCABULARY_FILE
    if not path.exists():
        return None
    texts = read_json(path)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ArtifactError(f"{path}: expected a JSON list of strings, one per token id; make the report again")
    return texts


def _decoder_kinds(tokenizer: Any) -> set[str]:
    """Names of the decoding steps of a fast tokenizer; empty for one written in Python."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return set()
    decoder = json.loads(backend.to_str()).get("decoder")
    return set(_step_names(decoder))


def _step_names(decoder: Any) -> Iterator[str]:
    if isinstance(decoder, dict):
        yield str(decoder.get("type"))
        for step in decoder.get("decoders", []):
            yield from _step_names(step)


def _text_of(piece: str, kinds: set[str], *, literal: bool) -> str:
    if literal:
        return piece
    if "ByteLevel" in kinds:
        return _readable(b"".join(_BYTE_OF.get(character, character.encode()) for character in piece))
    if "WordPiece" in kinds:
        return piece.removeprefix("##") if piece.startswith("##") else f" {piece}"
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return _readable(bytes([int(piece[3:5], 16)]))
    return piece.replace("▁", " ")


def _readable(data: bytes) -> str:
    """UTF-8 text; bytes that are no whole character on their own stay visible."""
    return "".join(
        f"⟨{ord(character) - 0xDC00:02X}⟩" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in data.decode("utf-8", "surrogateescape")
    )


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's printable stand-in for each byte: Latin-1's printable characters, then U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): bytes([byte]) for byte in printable}
    alphabet |= {chr(0x100 + index): bytes([byte]) for index, byte in enumerate(others)}
    return alphabet


_BYTE_OF = _byte_alphabet()
