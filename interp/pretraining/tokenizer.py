"""Byte-level BPE learned from the training documents, in Hugging Face's format."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

BOS, PAD = "<|bos|>", "<|pad|>"
BOS_ID, PAD_ID = 0, 1


def learn_tokenizer(texts: Iterable[str], *, vocab_size: int, context_size: int) -> PreTrainedTokenizerFast:
    """Learn a tokenizer in which any text survives the round trip. BOS begins a document and, as EOS, ends it.

    Text is taken as it is: no normalisation, no space added in front. Encoding puts BOS in front unless told not to add
    special tokens.
    Source: Sennrich et al. 2016 (BPE); Radford et al. 2019, section 2.2 (over bytes).
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=PAD,
        padding_side="right",
        model_max_length=context_size,
        clean_up_tokenization_spaces=False,
    )


def encode_documents(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[list[int]]:
    """Each document as BOS, text, BOS."""
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [[tokenizer.bos_token_id, *ids, tokenizer.bos_token_id] for ids in encoded]
