"""The GPT-NeoX of TokFSM, from random weights, with a tokenizer of ten digits and BOS."""

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from interp.models import Model, wrap_model
from interp.studies.tokfsm_machine import BASE, BOS


def new_model(
    *, n_layers: int, d_model: int, n_heads: int, context_size: int, seed: int, parallel: bool = True
) -> Model:
    """A model of 11 tokens, its MLP four times as wide as its stream.

    `parallel` lets a block's MLP read what its attention reads, as GPT-NeoX does; otherwise it reads what attention
    wrote.

    Source: Tamkin et al. 2023 (GPT-NeoX of 4 layers, 4 heads, d=128, MLP 512).
    """
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=BASE + 1,
        hidden_size=d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        intermediate_size=4 * d_model,
        max_position_embeddings=context_size,
        bos_token_id=BOS,
        eos_token_id=BOS,
        tie_word_embeddings=False,
        use_parallel_residual=parallel,
    )
    return wrap_model(GPTNeoXForCausalLM(config), digit_tokenizer(), name="tokfsm")


def digit_tokenizer() -> PreTrainedTokenizerFast:
    """One token a digit."""
    vocabulary = {str(digit): digit for digit in range(BASE)} | {"<s>": BOS}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<s>"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>", pad_token="<s>", unk_token="<s>"
    )
