"""Prompts begin with BOS once, as rows of text do; answers are one token each."""

import pytest

from interp.datasets import DataConfig, open_stream
from interp.errors import DataError
from interp.models import load_model
from interp.prompts import answer_token, encode_prompts
from tests.families import tiny_model
from tests.texts import write_jsonl

BOS = 0


@pytest.mark.parametrize("add_bos", [True, False])
def test_a_text_that_begins_with_bos_gets_no_second_one(add_bos):
    model = tiny_model("llama")
    with_it, without = (
        encode_prompts(model, [text], add_bos=add_bos).token_ids.tolist()[0] for text in ("<s> w4 w5", "w4 w5")
    )
    assert with_it.count(BOS) == 1
    assert with_it == (without if add_bos else [BOS, *without])
    # Only the first is the row's own.
    assert encode_prompts(model, ["<s> <s> w4"], add_bos=add_bos).token_ids.tolist()[0].count(BOS) == 2


def test_prompts_and_rows_of_text_are_the_same_tokens(tmp_path):
    model = tiny_model("llama")
    for text in ("<s> w4 w5", "w4 <s> w5", "w4 w5"):
        path = write_jsonl(tmp_path / "t.jsonl", [text])
        batch = next(open_stream(str(path), model, DataConfig(context_size=16), split="all").iter_pass())
        assert encode_prompts(model, [text]).token_ids.tolist() == batch.token_ids.tolist()


def test_an_answer_of_several_tokens_is_told_with_the_form_that_is_one(data_folder):
    """SentencePiece puts the space before a word itself: " she" is a space and " she"."""
    model = load_model(str(data_folder / "models" / "stories260K"))
    with pytest.raises(DataError, match=r"got answer ' she', which is the tokens .*; give 'she', which is one$"):
        answer_token(model, " she")
    assert answer_token(model, "she") == model.tokenizer.convert_tokens_to_ids("▁she")
    with pytest.raises(DataError, match="give another word"):
        answer_token(model, "elephants")
