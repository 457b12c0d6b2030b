"""Tiny random models of every supported family, made in memory: no file, no network.

Norm weights, biases and every other tensor are random, so that nothing is zero or one by accident.
"""

from collections.abc import Callable, Mapping

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from interp.models import Model, wrap_model

D_VOCAB = 40
CONTEXT = 24
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

_ids = {"vocab_size": D_VOCAB, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_rotary = _ids | {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "intermediate_size": 28,
    "max_position_embeddings": CONTEXT,
}

CONFIGS: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(n_embd=16, n_head=2, n_layer=3, n_positions=CONTEXT, **_ids),
    "gpt_neox_parallel": lambda: GPTNeoXConfig(num_attention_heads=2, **_rotary),
    "gpt_neox_sequential": lambda: GPTNeoXConfig(num_attention_heads=2, use_parallel_residual=False, **_rotary),
    # Two query heads for each key head, a bias, and heads that do not fill d_model.
    "llama": lambda: LlamaConfig(
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, attention_bias=True, **_rotary
    ),
    "mistral": lambda: MistralConfig(num_attention_heads=4, num_key_value_heads=2, sliding_window=5, **_rotary),
    "qwen2": lambda: Qwen2Config(num_attention_heads=4, num_key_value_heads=2, **_rotary),
    # A cap low enough to bite; layers alternate between a window and the whole row.
    "gemma2": lambda: Gemma2Config(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        query_pre_attn_scalar=6,
        attn_logit_softcapping=0.5,
        sliding_window=5,
        **_rotary,
    ),
}
KINDS = tuple(CONFIGS)


def tiny_model(kind: str, *, seed: int = 0) -> Model:
    """A random model of three layers, d_model 16, with a tokenizer of 40 words (`w4` is token 4)."""
    torch.manual_seed(seed)
    hf = AutoModelForCausalLM.from_config(CONFIGS[kind]())
    with torch.no_grad():
        for parameter in hf.parameters():
            spread = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.normal_(mean=1.0 if parameter.ndim == 1 else 0.0, std=spread)
    return wrap_model(hf.requires_grad_(False), tiny_tokenizer(), name=f"tiny-{kind}")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words `w4` to `w39` after the special tokens <s>, </s>, <pad> and <unk>; prepends nothing."""
    vocab = {word: index for index, word in enumerate(SPECIAL.values())}
    vocab |= {f"w{index}": index for index in range(len(vocab), D_VOCAB)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="right", **SPECIAL)


def tiny_tokens(n_rows: int = 3, n_positions: int = 11, *, seed: int = 1) -> torch.Tensor:
    """Random rows of ordinary tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(SPECIAL), D_VOCAB, (n_rows, n_positions), generator=generator)
