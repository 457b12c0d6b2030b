"""Where each architecture of Hugging Face keeps its parts: one small table per family."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from interp.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Paths of an architecture's parts: `embed` to `ln_final` from the model's root, the rest from a block.

    `qkv` is one module per projection, or the name of a fused one whose columns run through all queries, keys and
    values ("fused") or through them head by head ("interleaved"). `ln2` is absent where attention and MLP run in
    parallel behind one norm. `causal`: tokens see only what stands before them; the others are encoders, read at
    their base model. `post_norm`: norms stand after each addition to the stream (BERT), not before attention and MLP.
    `positions_from_padding`: positions are counted from the padding token's id on, so that many fewer fit the table.
    `rms_norm`: norms divide by the root mean square and do not take the mean off. `old_buffers`: masks that published
    files of the architecture hold and the model no longer reads, from a block.
    """

    embed: str
    token_type_embed: str | None = None
    pos_embed: str | None = None
    embed_ln: str | None = None
    blocks: str
    ln_final: str | None
    ln1: str
    qkv: tuple[str, str, str] | str
    qkv_layout: Literal["separate", "fused", "interleaved"] = "separate"
    z: str
    attn_out: str
    ln2: str | None
    mlp_pre: str
    mlp_pre_linear: str | None = None
    mlp_post: str
    mlp_out: str
    parallel: bool = False
    causal: bool = True
    post_norm: bool = False
    positions_from_padding: bool = False
    rms_norm: bool = False
    old_buffers: tuple[str, ...] = ()


GPT2 = Family(
    embed="transformer.wte",
    pos_embed="transformer.wpe",
    blocks="transformer.h",
    ln_final="transformer.ln_f",
    ln1="ln_1",
    qkv="attn.c_attn",
    qkv_layout="fused",
    z="attn.c_proj",
    attn_out="attn",
    ln2="ln_2",
    mlp_pre="mlp.c_fc",
    mlp_post="mlp.c_proj",
    mlp_out="mlp",
)

GPT_NEO = replace(
    GPT2,
    qkv=("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"),
    qkv_layout="separate",
    z="attn.attention.out_proj",
    old_buffers=("attn.attention.bias", "attn.attention.masked_bias"),
)

GPTJ = Family(
    embed="transformer.wte",
    blocks="transformer.h",
    ln_final="transformer.ln_f",
    ln1="ln_1",
    qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    z="attn.out_proj",
    attn_out="attn",
    ln2=None,
    mlp_pre="mlp.fc_in",
    mlp_post="mlp.fc_out",
    mlp_out="mlp",
    parallel=True,
    old_buffers=("attn.bias", "attn.masked_bias"),
)

GPT_NEOX = Family(
    embed="gpt_neox.embed_in",
    blocks="gpt_neox.layers",
    ln_final="gpt_neox.final_layer_norm",
    ln1="input_layernorm",
    qkv="attention.query_key_value",
    qkv_layout="interleaved",
    z="attention.dense",
    attn_out="attention",
    ln2="post_attention_layernorm",
    mlp_pre="mlp.dense_h_to_4h",
    mlp_post="mlp.dense_4h_to_h",
    mlp_out="mlp",
)

LLAMA = Family(
    embed="model.embed_tokens",
    blocks="model.layers",
    ln_final="model.norm",
    ln1="input_layernorm",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    z="self_attn.o_proj",
    attn_out="self_attn",
    ln2="post_attention_layernorm",
    mlp_pre="mlp.gate_proj",
    mlp_pre_linear="mlp.up_proj",
    mlp_post="mlp.down_proj",
    mlp_out="mlp",
    rms_norm=True,
)

# Gemma 2 and 3 add a norm after attention and one after the MLP; what reaches the stream is their output.
GEMMA2 = replace(
    LLAMA,
    attn_out="post_attention_layernorm",
    ln2="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
)

# Gemma 3 with eyes: the language model stands one level deeper, beside the vision tower.
GEMMA3_VISION = replace(
    GEMMA2,
    embed="model.language_model.embed_tokens",
    blocks="model.language_model.layers",
    ln_final="model.language_model.norm",
)

BERT = Family(
    embed="embeddings.word_embeddings",
    token_type_embed="embeddings.token_type_embeddings",
    pos_embed="embeddings.position_embeddings",
    embed_ln="embeddings.LayerNorm",
    blocks="encoder.layer",
    ln_final=None,
    ln1="attention.output.LayerNorm",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    z="attention.output.dense",
    attn_out="attention.output.dense",
    ln2="output.LayerNorm",
    mlp_pre="intermediate.dense",
    mlp_post="output.dense",
    mlp_out="output.dense",
    causal=False,
    post_norm=True,
)

ROBERTA = replace(BERT, positions_from_padding=True)

DISTILBERT = replace(
    BERT,
    token_type_embed=None,
    blocks="transformer.layer",
    ln1="sa_layer_norm",
    qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    z="attention.out_lin",
    attn_out="attention.out_lin",
    ln2="output_layer_norm",
    mlp_pre="ffn.lin1",
    mlp_post="ffn.lin2",
    mlp_out="ffn.lin2",
)

MPNET = replace(
    ROBERTA,
    token_type_embed=None,
    qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    z="attention.attn.o",
    attn_out="attention.attn.o",
    ln1="attention.LayerNorm",
)

FAMILIES: Mapping[str, Family] = {
    "gpt2": GPT2,
    "gpt_neo": GPT_NEO,
    "gpt_neox": GPT_NEOX,
    "gptj": GPTJ,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA2,
    "gemma3": GEMMA3_VISION,
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
}
"""By `model_type` of the Hugging Face config."""


def family_of(model_type: str) -> Family:
    """The table for a `model_type`.

    Raises: ModelError naming the supported ones.
    """
    if model_type not in FAMILIES:
        raise ModelError(
            f"got a model of type {model_type!r}; supported are {', '.join(FAMILIES)}; choose one of these"
        )
    return FAMILIES[model_type]
