"""TransformerLens hook names for Hugging Face models, made from the family's table of paths.

Only tensors at the edge of a module have a name here, so that every hook can be read and edited exactly.
`hook_normalized`, attention patterns and per-head results are inside a module: `Model.bridge` has them.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from interp.errors import UnknownHookError
from interp.families import Family
from interp.hook_points import Columns, HookPoint


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
        """Read from a Hugging Face config (its text part, where a model also sees)."""
        config = config.get_text_config()
        n_heads, d_model = config.num_attention_heads, config.hidden_size
        return Sizes(
            n_layers=config.num_hidden_layers,
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
            d_head=getattr(config, "head_dim", None) or d_model // n_heads,
            d_mlp=_first(config, ("intermediate_size", "n_inner", "hidden_dim")) or 4 * d_model,
            parallel=bool(getattr(config, "use_parallel_residual", False)),
        )


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    """What families call the same thing, whichever this one has."""
    return next((value for name in names if (value := getattr(config, name, None))), None)


def hook_points(family: Family, sizes: Sizes) -> dict[str, HookPoint]:
    """Every hook of a model by name, in the order in which a forward pass reaches them."""
    outside = {
        "hook_embed": family.embed,
        "hook_token_type_embed": family.token_type_embed,
        "hook_pos_embed": family.pos_embed,
        "embed_ln.hook_out": family.embed_ln,
    }
    points = [HookPoint(name, path, "out", None, sizes.d_model) for name, path in outside.items() if path is not None]
    for layer in range(sizes.n_layers):
        points.extend(_block_points(family, sizes, layer))
    if family.ln_final is not None:
        points.append(HookPoint("ln_final.hook_out", family.ln_final, "out", None, sizes.d_model))
    return {point.name: point for point in points}


def _block_points(family: Family, sizes: Sizes, layer: int) -> Iterator[HookPoint]:
    def point(name: str, module: str, side: Literal["in", "out"], width: int, **more: Any) -> HookPoint:
        path = f"{family.blocks}.{layer}.{module}".rstrip(".")
        return HookPoint(f"blocks.{layer}.{name}", path, side, layer, width, **more)

    d_model, d_mlp, heads = sizes.d_model, sizes.d_mlp, (sizes.n_heads, sizes.d_head)
    yield point("hook_resid_pre", "", "in", d_model)
    if not family.post_norm:
        yield point("ln1.hook_out", family.ln1, "out", d_model)
    for name, module, head_shape, columns in _projections(family, sizes):
        yield point(name, module, "out", head_shape[0] * head_shape[1], head_shape=head_shape, columns=columns)
    yield point("attn.hook_z", family.z, "in", heads[0] * heads[1], head_shape=heads)
    yield point("hook_attn_out", family.attn_out, "out", d_model)
    if family.post_norm:
        # Nobody but the norm reads the sum, so that an edit of it needs no writing in place.
        yield point("hook_resid_mid", family.ln1, "in", d_model)
        yield point("ln1.hook_out", family.ln1, "out", d_model)
    # With attention and MLP in parallel the stream has no value between them.
    elif not (sizes.parallel or family.parallel):
        yield point("hook_resid_mid", family.ln2 or "", "in", d_model, shared=True)
    if family.ln2 is not None and not family.post_norm:
        yield point("ln2.hook_out", family.ln2, "out", d_model)
    yield point("mlp.hook_pre", family.mlp_pre, "out", d_mlp)
    if family.mlp_pre_linear is not None:
        yield point("mlp.hook_pre_linear", family.mlp_pre_linear, "out", d_mlp)
    yield point("mlp.hook_post", family.mlp_post, "in", d_mlp)
    yield point("hook_mlp_out", family.mlp_out, "out", d_model)
    if family.ln2 is not None and family.post_norm:
        yield point("ln2.hook_out", family.ln2, "out", d_model)
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
        hint = f"its blocks are 0 to {n_layers - 1};"
    else:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6) or list(known)[:3]
        hint = f"did you mean {' or '.join(near)}?"
    return UnknownHookError(
        f"{model_name} has no hook {name!r}; {hint} `interp models {model_name} --hooks` lists all of them"
    )
