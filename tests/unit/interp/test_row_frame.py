"""What stands before a text: measured on tokenizers that behave as those of published families do."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from interp.datasets import DataConfig, open_stream
from interp.errors import ConfigError, DataError
from interp.models import load_model, wrap_model
from interp.row_frame import RowFrame
from tests.families import ENCODER_SPECIAL, SPECIAL, tiny_model, tiny_tokenizer
from tests.texts import write_jsonl


def adding(template, special):
    """A tokenizer that puts marks around a text by itself."""
    tokenizer = tiny_tokenizer(special)
    marks = [(token, tokenizer.convert_tokens_to_ids(token)) for token in special.values() if token in template]
    tokenizer._tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=marks)
    return tokenizer


NO_BOS = {key: token for key, token in SPECIAL.items() if key != "bos_token"}

# Family -> (tokenizer, causal, begin, end, added by the tokenizer, what a row of "w5" holds).
TABLE = {
    "gpt2, gpt_neo, gptj, pythia": (lambda: tiny_tokenizer(), True, "<s>", None, False, ["<s>", "w5"]),
    "llama, mistral, gemma": (lambda: adding("<s> $A", SPECIAL), True, "<s>", None, True, ["<s>", "w5"]),
    "qwen": (lambda: tiny_tokenizer(NO_BOS), True, None, None, False, ["w5"]),
    "bert, mpnet": (
        lambda: adding("[CLS] $A [SEP]", ENCODER_SPECIAL), False, "[CLS]", "[SEP]", True, ["[CLS]", "w5", "[SEP]"]
    ),
    "bert without a post-processor": (
        lambda: tiny_tokenizer(ENCODER_SPECIAL), False, "[CLS]", "[SEP]", False, ["[CLS]", "w5", "[SEP]"]
    ),
    "t5-like encoder": (lambda: adding("$A </s>", NO_BOS), False, None, "</s>", False, ["w5", "</s>"]),
}  # fmt: skip


@pytest.mark.parametrize("family", TABLE)
def test_the_table(family, tmp_path):
    make, causal, begin, end, added, row = TABLE[family]
    tokenizer = make()
    frame = RowFrame.of(tokenizer, causal=causal)
    ids = [None if token is None else tokenizer.convert_tokens_to_ids(token) for token in (begin, end)]
    assert (frame.begin, frame.end, frame.begin_text, frame.added) == (*ids, begin, added)
    model = wrap_model(tiny_model("llama" if causal else "bert").hf, tokenizer, name=family)
    assert model.facts["bos"] == {"token": begin, "id": ids[0], "added_by_tokenizer": added, "end_id": ids[1]}
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w5"]))
    batch = next(open_stream(path, model, DataConfig(context_size=8), split="all").iter_pass())
    # Once, whether the tokenizer adds it or not.
    assert tokenizer.convert_ids_to_tokens(batch.token_ids[0]) == row
    bare = next(open_stream(path, model, DataConfig(context_size=8, prepend_bos=False), split="all").iter_pass())
    assert tokenizer.convert_ids_to_tokens(bare.token_ids[0]) == ["w5"]


def test_a_bos_that_the_text_begins_with_is_not_doubled(tmp_path):
    model = tiny_model("llama")
    path = str(write_jsonl(tmp_path / "t.jsonl", ["<s> w5 w6"]))
    batch = next(open_stream(path, model, DataConfig(context_size=8), split="all").iter_pass())
    assert model.tokenizer.convert_ids_to_tokens(batch.token_ids[0]) == ["<s>", "w5", "w6"]


def test_bos_cannot_be_asked_of_a_tokenizer_that_has_none(tmp_path):
    model = wrap_model(tiny_model("qwen2").hf, tiny_tokenizer(NO_BOS), name="qwen")
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w5"]))
    with pytest.raises(ConfigError, match="has no BOS token"):
        open_stream(path, model, DataConfig(context_size=8, prepend_bos=True))


def test_a_special_token_beyond_the_vocabulary_is_let_through_until_a_text_holds_it(tmp_path):
    """Gemma 3's text models have 262,144 tokens, its tokenizer one more, for images."""
    model = tiny_model("gemma3_text")
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    model = wrap_model(model.hf, model.tokenizer, name="gemma")
    assert len(model.tokenizer) == model.d_vocab + 1
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w5", "w6 <image>"]))
    with pytest.raises(DataError, match="the text holds '<image>'"):
        list(open_stream(path, model, DataConfig(context_size=8), split="all").iter_pass())


def test_a_padding_token_beyond_the_vocabulary_is_not_the_text_s(tmp_path):
    model = tiny_model("llama")
    model.tokenizer.add_special_tokens({"pad_token": "<padding>"})
    model = wrap_model(model.hf, model.tokenizer, name="llama")
    assert model.tokenizer.pad_token_id == model.d_vocab
    path = str(write_jsonl(tmp_path / "t.jsonl", ["w5", "w6 w7"]))
    (batch,) = open_stream(path, model, DataConfig(context_size=8), split="all").iter_pass()
    assert batch.token_ids[~batch.attention_mask.bool()].tolist() == [0]


def test_an_end_that_is_the_beginning_too_is_told_apart():
    """Where BOS and EOS are one token, one behind the text is no BOS."""
    for template, added in (("$A </s>", False), ("</s> $A", True)):
        tokenizer = adding(template, SPECIAL)
        tokenizer.bos_token = "</s>"
        assert RowFrame.of(tokenizer, causal=True).added == added


def test_real_tokenizers(data_folder):
    stories = load_model(str(data_folder / "models" / "stories260K"), device="cpu")
    assert (stories.frame.begin, stories.frame.end) == (1, None)
    gpt2 = RowFrame.of(AutoTokenizer.from_pretrained(data_folder / "tokenizers" / "gpt2"), causal=True)
    assert (gpt2.begin, gpt2.begin_text, gpt2.added) == (50256, "<|endoftext|>", False)
