"""The text of a token is what the report's table of all tokens says, where bytes make whole characters."""

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dashboards.tokens import token_texts
from interp.lenses.grid import encode_text, read_logit
from interp.models import load_model
from interp.token_text import token_text


def test_word_pieces_carry_their_space():
    backend = Tokenizer(models.WordLevel({"play": 0, "##ing": 1}, unk_token="play"))
    backend.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert [token_text(tokenizer, token) for token in (0, 1)] == [" play", "ing"]


@pytest.mark.parametrize("name", ["models/stories260K", "tokenizers/gpt2"])
def test_a_token_is_what_the_table_of_all_tokens_says(data_folder, name):
    tokenizer = AutoTokenizer.from_pretrained(data_folder / name)
    table = token_texts(tokenizer)[:2000]
    whole = [token for token, text in enumerate(table) if "⟨" not in text]
    assert len(whole) > 300
    assert [token_text(tokenizer, token) for token in whole] == [table[token] for token in whole]


def test_tokens_of_a_lens_grid_make_up_its_text(data_folder):
    """Behind the beginning, where SentencePiece puts a space of its own."""
    model = load_model(str(data_folder / "models" / "stories260K"))
    grid = read_logit(model, encode_text(model, "Lily went to the park"))
    assert "".join(grid.text(token) for token in grid.tokens[1:]) == " Lily went to the park"
