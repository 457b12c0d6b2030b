"""Token ids become the text they add, whatever alphabet the tokenizer stores them in."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dashboards.tokens import VOCABULARY_FILE, load_token_texts, save_token_texts, token_texts
from interp.errors import ArtifactError

SENTENCE = "Once, naïve Zoë said “hi” 🐈\n\tto 2 friends."


def _byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=["<|Ġend|>"])


def _word_level(words, decoder):
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    backend.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_bytes_of_split_characters_stay_visible():
    tokenizer = _byte_level()
    texts = token_texts(tokenizer)
    pieces = [texts[token] for token in tokenizer(SENTENCE)["input_ids"]]
    raw = b"".join(bytes.fromhex(piece[1:-1]) if piece.startswith("⟨") else piece.encode() for piece in pieces)
    assert raw.decode() == SENTENCE
    assert pieces[SENTENCE.index("ï") : SENTENCE.index("ï") + 2] == ["⟨C3⟩", "⟨AF⟩"]


def test_special_tokens_are_literal():
    tokenizer = _byte_level()
    assert token_texts(tokenizer)[tokenizer.convert_tokens_to_ids("<|Ġend|>")] == "<|Ġend|>"


def test_sentence_piece_spaces_and_bytes():
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert token_texts(_word_level(["▁a", "b", "<0x0A>", "<0xE2>"], decoder)) == [" a", "b", "\n", "⟨E2⟩"]


def test_word_pieces_carry_their_space():
    assert token_texts(_word_level(["play", "##ing"], decoders.WordPiece())) == [" play", "ing"]


def test_every_id_of_a_real_tokenizer_has_a_text(data_folder):
    tokenizer = AutoTokenizer.from_pretrained(data_folder / "models" / "stories260K")
    texts = token_texts(tokenizer)
    ids = tokenizer("Once upon a time, Lily ran.", add_special_tokens=False)["input_ids"]
    assert "".join(texts[token] for token in ids).strip() == "Once upon a time, Lily ran."
    assert len(texts) == len(tokenizer)


def test_texts_survive_the_disk(tmp_path):
    assert load_token_texts(tmp_path) is None
    save_token_texts(tmp_path, _byte_level())
    assert load_token_texts(tmp_path) == token_texts(_byte_level())


def test_a_damaged_vocabulary_is_named(tmp_path):
    (tmp_path / VOCABULARY_FILE).write_text('{"a": 1}')
    with pytest.raises(ArtifactError, match=VOCABULARY_FILE):
        load_token_texts(tmp_path)
