"""TransformerLens hook names for Hugging Face models: one small table per architecture family.

Only tensors at the edge of a module have a name here, so that every hook can be read and edited exactly.
`hook_normalized`, attention patterns and per-head results are inside a module: `Model.bridge` has them.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from interp.errors import ModelError, UnknownHookError
from interp.hook_points import Columns, HookPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Where an architecture keeps its parts: `embed` to `ln_final` from the model's root, the rest from a block.

    `qkv` is one module per projection, or the name of a fused one whose columns run through all queries, keys and
    values ("fused") or through them head by head ("interleaved").
    """

    embed: str
    pos_embed: str | None = None
    blocks: str
    ln_final: str
    ln1: str
    qkv: tuple[str, str, str] | str
    qkv_layout: Literal["separate", "fused", "interleaved"]
    z: str
    attn_out: str
    ln2: str
    mlp_pre: str
    mlp_pre_linear: str | None = None
    mlp_post: str
    mlp_out: str


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
    qkv_layout="separate",
    z="self_attn.o_proj",
    attn_out="self_attn",
    ln2="post_attention_layernorm",
    mlp_pre="mlp.gate_proj",
    mlp_pre_linear="mlp.up_proj",
    mlp_post="mlp.down_proj",
    mlp_out="mlp",
)

# Gemma 2 adds a norm after attention and one after the MLP; what reaches the stream is their output.
GEMMA2 = replace(
    LLAMA,
    attn_out="post_attention_layernorm",
    ln2="pre_feedforward_layernorm",
    mlp_out="post_feedforward_layernorm",
)

FAMILIES: Mapping[str, Family] = {
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "gemma2": GEMMA2,
}
"""By `model_type` of the Hugging Face config."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of a model, under one name each for all families."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    parallel: bool

    @staticmethod
    def of(config: Any) -> "Sizes":
        """Read from a Hugging Face config."""
        n_heads, d_model = config.num_attention_heads, config.hidden_size
        d_mlp = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * d_model
        return Sizes(
            n_layers=config.num_hidden_layers,
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
            d_head=getattr(config, "head_dim", None) or d_model // n_heads,
            d_mlp=d_mlp,
            parallel=bool(getattr(config, "use_parallel_residual", False)),
        )


def family_of(model_type: str) -> Family:
    """The table for a `model_type`.

    Raises: ModelError naming the supported ones.
    """
    if model_type not in FAMILIES:
        raise ModelError(
            f"got a model of type {model_type!r}; supported are {', '.join(FAMILIES)}; choose one of these"
        )
    return FAMILIES[model_type]


def hook_points(family: Family, sizes: Sizes) -> dict[str, HookPoint]:
    """Every hook of a model by name, in the order in which a forward pass reaches them."""
    points = [HookPoint("hook_embed", family.embed, "out", None, sizes.d_model)]
    if family.pos_embed is not None:
        points.append(HookPoint("hook_pos_embed", family.pos_embed, "out", None, sizes.d_model))
    for layer in range(sizes.n_layers):
        points.extend(_block_points(family, sizes, layer))
    points.append(HookPoint("ln_final.hook_out", family.ln_final, "out", None, sizes.d_model))
    return {point.name: point for point in points}


def _block_points(family: Family, sizes: Sizes, layer: int) -> Iterator[HookPoint]:
    def point(name: str, module: str, side: Literal["in", "out"], width: int, **more: Any) -> HookPoint:
        path = f"{family.blocks}.{layer}.{module}".rstrip(".")
        return HookPoint(f"blocks.{layer}.{name}", path, side, layer, width, **more)

    d_model, d_mlp, heads = sizes.d_model, sizes.d_mlp, (sizes.n_heads, sizes.d_head)
    yield point("hook_resid_pre", "", "in", d_model)
    yield point("ln1.hook_out", family.ln1, "out", d_model)
    for name, module, head_shape, columns in _projections(family, sizes):
        yield point(name, module, "out", head_shape[0] * head_shape[1], head_shape=head_shape, columns=columns)
    yield point("attn.hook_z", family.z, "in", heads[0] * heads[1], head_shape=heads)
    yield point("hook_attn_out", family.attn_out, "out", d_model)
    # With attention and MLP in parallel the stream has no value between them.
    if not sizes.parallel:
        yield point("hook_resid_mid", family.ln2, "in", d_model, shared=True)
    yield point("ln2.hook_out", family.ln2, "out", d_model)
    yield point("mlp.hook_pre", family.mlp_pre, "out", d_mlp)
    if family.mlp_pre_linear is not None:
        yield point("mlp.hook_pre_linear", family.mlp_pre_linear, "out", d_mlp)
    yield point("mlp.hook_post", family.mlp_post, "in", d_mlp)
    yield point("hook_mlp_out", family.mlp_out, "out", d_model)
    yield point("hook_resid_post", "", "out", d_model)


def _projections(family: Family, sizes: Sizes) -> Iterator[tuple[str, str, tuple[int, int], Columns | None]]:
    """Queries, keys and values before rotation: hook name, module, (heads, width of a head), columns if fused."""
    widths = {"q": sizes.n_heads, "k": sizes.n_kv_heads, "v": sizes.n_kv_heads}
    for index, (letter, n_heads) in enumerate(widths.items()):
        module = family.qkv if isinstance(family.qkv, str) else family.qkv[index]
        columns = None
        if family.qkv_layout == "fused":
            width = n_heads * sizes.d_head
            columns = Columns(1, index * width, width)
        elif family.qkv_layout == "interleaved":
            columns = Columns(n_heads, index * sizes.d_head, sizes.d_head)
        yield f"attn.hook_{letter}", module, (n_heads, sizes.d_head), columns


def unknown_hook(name: str, known: Mapping[str, HookPoint], model_name: str, n_layers: int) -> UnknownHookError:
    """The error for a name that a model does not have: the closest ones and how to list all."""
    block = re.match(r"blocks\.(\d+)\.", name)
    if block and int(block[1]) >= n_layers:
        hint = f"its blocks are 0 to {n_layers - 1}"
    else:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6) or list(known)[:3]
        hint = f"did you mean {' or '.join(near)}?"
    return UnknownHookError(
        f"{model_name} has no hook {name!r}; {hint} `interp models {model_name} --hooks` lists all of them"
    )
