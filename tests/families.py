"""Tiny random models of every supported family, made in memory: no file, no network.

KINDS are causal language models, ENCODERS are BERT and its kin.
Norm weights, biases and every other tensor are random, so that nothing is zero or one by accident.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    DistilBertConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    SiglipVisionConfig,
    XLMRobertaConfig,
)

from interp.models import Model, wrap_model

D_VOCAB = 40
CONTEXT = 24
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
ENCODER_SPECIAL = {"cls_token": "[CLS]", "pad_token": "<pad>", "sep_token": "[SEP]", "unk_token": "<unk>"}

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
    "gpt_neo": lambda: GPTNeoConfig(
        hidden_size=16,
        num_layers=3,
        num_heads=2,
        attention_types=[[["global", "local", "global"], 1]],
        window_size=5,
        max_position_embeddings=CONTEXT,
        **_ids,
    ),
    "gptj": lambda: GPTJConfig(n_embd=16, n_head=2, n_layer=3, n_positions=CONTEXT, rotary_dim=4, **_ids),
    "qwen3": lambda: Qwen3Config(num_attention_heads=4, num_key_value_heads=2, head_dim=6, **_rotary),
    "gemma": lambda: GemmaConfig(num_attention_heads=4, num_key_value_heads=2, head_dim=6, **_rotary),
    "gemma3_text": lambda: Gemma3TextConfig(**_gemma3),
    "gemma3": lambda: Gemma3Config(
        text_config=Gemma3TextConfig(**_gemma3),
        vision_config=SiglipVisionConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=8,
            patch_size=4,
        ),
        mm_tokens_per_image=4,
        **_ids,
    ),
}
# One layer of three looks at a window, with a rotation of its own.
_gemma3 = _rotary | {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "query_pre_attn_scalar": 6,
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
KINDS = tuple(CONFIGS)

_encoder = {
    "vocab_size": D_VOCAB,
    "pad_token_id": 1,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 28,
}
ENCODER_CONFIGS: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(max_position_embeddings=CONTEXT, **_encoder),
    # Positions count from the padding token's id on.
    "roberta": lambda: RobertaConfig(max_position_embeddings=CONTEXT + 2, **_encoder),
    "xlm-roberta": lambda: XLMRobertaConfig(max_position_embeddings=CONTEXT + 2, **_encoder),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=D_VOCAB,
        dim=16,
        n_layers=3,
        n_heads=2,
        hidden_dim=28,
        max_position_embeddings=CONTEXT,
        pad_token_id=1,
    ),
    "mpnet": lambda: MPNetConfig(max_position_embeddings=CONTEXT + 2, **_encoder),
}
ENCODERS = tuple(ENCODER_CONFIGS)


def tiny_model(kind: str, *, seed: int = 0) -> Model:
    """A random model of three layers, d_model 16, with a tokenizer of 40 words (`w4` is token 4)."""
    torch.manual_seed(seed)
    if kind in ENCODERS:
        hf, tokenizer = AutoModel.from_config(ENCODER_CONFIGS[kind]()), tiny_tokenizer(ENCODER_SPECIAL)
    else:
        hf, tokenizer = AutoModelForCausalLM.from_config(CONFIGS[kind]()), tiny_tokenizer()
    with torch.no_grad():
        for parameter in hf.parameters():
            spread = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.normal_(mean=1.0 if parameter.ndim == 1 else 0.0, std=spread)
    return wrap_model(hf.requires_grad_(False), tokenizer, name=f"tiny-{kind}")


def save_model(model: Model, folder: Path, **how: Any) -> Path:
    """Write a model and its tokenizer as `load_model` reads them; `how` is told to transformers."""
    model.hf.save_pretrained(folder, **how)
    model.tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(special: Mapping[str, str] = SPECIAL) -> PreTrainedTokenizerFast:
    """Whole words `w4` to `w39` after the special tokens, <s>, </s>, <pad> and <unk> by default; prepends nothing."""
    vocab = {word: index for index, word in enumerate(special.values())}
    vocab |= {f"w{index}": index for index in range(len(vocab), D_VOCAB)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="right", **special)


def tiny_tokens(n_rows: int = 3, n_positions: int = 11, *, seed: int = 1) -> torch.Tensor:
    """Random rows of ordinary tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(SPECIAL), D_VOCAB, (n_rows, n_positions), generator=generator)
