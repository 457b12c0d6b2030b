import pytest

from interp.pretraining.tokenizer import BOS_ID, PAD_ID, encode_documents, learn_tokenizer
from tests.stories import invented_stories


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer(invented_stories(), vocab_size=320, context_size=32)


@pytest.mark.parametrize("text", ["", " ", "Lily saw a red ball.\n\n", "Zoë — “naïve” 漢字 🦊\t\x00", "  two  spaces "])
def test_any_text_survives_the_round_trip(tokenizer, text: str):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_documents_begin_and_end_with_bos(tokenizer):
    (document,) = encode_documents(tokenizer, ["Tom saw the moon."])
    assert document[0] == document[-1] == BOS_ID == tokenizer.eos_token_id
    assert BOS_ID not in document[1:-1]
    assert tokenizer.pad_token_id == PAD_ID


def test_plain_call_puts_bos_in_front(tokenizer):
    assert tokenizer("Tom")["input_ids"][0] == BOS_ID


def test_learning_again_gives_the_same_tokenizer(tokenizer):
    again = learn_tokenizer(invented_stories(), vocab_size=320, context_size=32)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert len(tokenizer) == 320
