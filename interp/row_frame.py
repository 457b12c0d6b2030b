"""What stands before and after the text in each row: BOS for most language models, [CLS] … [SEP] for BERT."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class RowFrame:
    """A tokenizer's own frame around a text.

    begin: BOS, or an encoder's [CLS]; None where the tokenizer has neither (Qwen). end: an encoder's [SEP]; None for
    language models. added, measured: whether the tokenizer itself puts `begin` before a text (Llama, Gemma, BERT) or
    leaves that to the caller (GPT-2, Pythia); rows begin with it in both cases unless told otherwise.
    """

    begin: int | None
    end: int | None
    begin_text: str | None
    added: bool

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase, *, causal: bool) -> "RowFrame":
        """`begin` and `end` as the tokenizer names them, `added` by what it makes of an empty text."""
        begin: int | None = tokenizer.bos_token_id
        end: int | None = None
        if not causal:
            begin = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else begin
            end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        # Where BOS and EOS are one token, an EOS behind nothing would stand first too.
        text = "a" if begin == tokenizer.eos_token_id else ""
        framed: list[int] = tokenizer(text, add_special_tokens=True)["input_ids"]
        begin_text = None if begin is None else str(tokenizer.convert_ids_to_tokens(begin))
        return RowFrame(begin, end, begin_text, begin is not None and framed[:1] == [begin])

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest records."""
        return {"token": self.begin_text, "id": self.begin, "added_by_tokenizer": self.added, "end_id": self.end}
