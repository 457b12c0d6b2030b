"""What makes some models awkward to hook, each against its definition."""

import math

import pytest
import torch

from interp.errors import UnknownHookError
from interp.hooks import capture
from interp.models import load_model
from tests.families import KINDS, save_model, tiny_model, tiny_tokens


def attention(q, k, v, *, n_groups, window, cap, scale):
    """Capped causal attention written out: cap·tanh(scores / cap) before the mask.

    Source: Gemma Team 2024 (Gemma 2), section 2, logit soft-capping.
    """
    q, k, v = (x.unflatten(-1, (-1, 6)).transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(n_groups, dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    t = torch.arange(q.shape[2])
    behind = t[:, None] - t
    hidden = (behind < 0) | (behind >= window)
    return (scores.masked_fill(hidden, -math.inf).softmax(-1) @ v).transpose(1, 2).flatten(2)


def rotated(x, model, positions):
    """Queries or keys turned by the model's own rotation: the cap is what is tested here."""
    from transformers.models.gemma2.modeling_gemma2 import apply_rotary_pos_emb

    heads = x.unflatten(-1, (-1, 6)).transpose(1, 2)
    cos, sin = model.hf.model.rotary_emb(x, positions)
    turned, _ = apply_rotary_pos_emb(heads, heads, cos, sin)
    return turned.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("layer", [0, 1])
def test_soft_capped_attention_is_capped(layer):
    model, tokens = tiny_model("gemma2"), tiny_tokens()
    with torch.no_grad():
        # Queries and keys are drawn out until the cap bites: at random size a missing cap would hardly show.
        for block in model.hf.model.layers:
            block.self_attn.q_proj.weight.mul_(8)
            block.self_attn.k_proj.weight.mul_(8)
    names = [f"blocks.{layer}.attn.hook_{letter}" for letter in "qkvz"]
    q, k, v, z = capture(model, tokens, names).values()
    positions = torch.arange(tokens.shape[1])[None]
    q, k = rotated(q, model, positions), rotated(k, model, positions)
    window = 5 if model.hf.config.layer_types[layer] == "sliding_attention" else 99
    settings = {"n_groups": 2, "window": window, "scale": 6**-0.5}
    capped, bare = (attention(q, k, v, cap=cap, **settings) for cap in (0.5, None))
    assert (z - capped).abs().max() <= 1e-5 * capped.abs().max()
    assert (z - bare).abs().max() > 0.1 * bare.abs().max()


def test_a_soft_capped_model_is_loaded_with_attention_that_can_cap(tmp_path):
    model = tiny_model("gemma2")
    save_model(model, tmp_path / "m")
    loaded = load_model(str(tmp_path / "m"), device="cpu")
    assert loaded.hf.config._attn_implementation == "eager"
    hook = "blocks.2.hook_resid_post"
    ours, theirs = (capture(m, tiny_tokens(), [hook])[hook] for m in (loaded, model))
    assert torch.equal(ours, theirs)


def test_massive_activations_agree_relatively():
    """One dimension a hundred thousand times the others: absolute differences exceed 1e-5, relative ones do not."""
    model, tokens = tiny_model("llama"), tiny_tokens()
    with torch.no_grad():
        model.hf.model.layers[0].mlp.down_proj.weight[3] *= 1e5
    hook = "blocks.1.hook_resid_post"
    ours = capture(model, tokens, [hook])[hook]
    with torch.no_grad():
        theirs = model.bridge.run_with_cache(tokens)[1][hook]
    assert theirs.abs().max() > 1e4 * theirs.abs().median()
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    other = [i for i in range(16) if i != 3]
    assert (ours - theirs)[..., other].abs().max() <= 1e-5 * theirs[..., other].abs().max()


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "gemma3"])
def test_what_gemma_s_parts_write_is_behind_their_norms(kind):
    model, inner = tiny_model(kind), {}
    block = model.hf.get_submodule(model.hook("blocks.1.hook_resid_post").module_path)
    block.mlp.register_forward_hook(lambda module, args, output: inner.update(mlp=output))
    block.self_attn.register_forward_hook(lambda module, args, output: inner.update(attn=output[0]))
    names = [f"blocks.1.hook_{part}" for part in ("attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post")]
    attn_out, mlp_out, pre, mid, post = capture(model, tiny_tokens(), names).values()
    assert torch.equal(attn_out, block.post_attention_layernorm(inner["attn"]))
    assert torch.equal(mlp_out, block.post_feedforward_layernorm(inner["mlp"]))
    assert (mlp_out - inner["mlp"]).abs().max() > 0.1
    torch.testing.assert_close(pre + attn_out, mid)
    torch.testing.assert_close(mid + mlp_out, post)


@pytest.mark.parametrize("kind", ["gptj", "gpt_neox_parallel"])
def test_a_parallel_block_has_no_stream_between_its_parts(kind):
    model = tiny_model(kind)
    with pytest.raises(UnknownHookError, match="hook_resid_mid"):
        model.hook("blocks.0.hook_resid_mid")
    names = [f"blocks.1.hook_{part}" for part in ("attn_out", "mlp_out", "resid_pre", "resid_post")]
    attn_out, mlp_out, pre, post = capture(model, tiny_tokens(), names).values()
    torch.testing.assert_close(pre + attn_out + mlp_out, post)


def test_gpt_j_s_parts_read_one_norm():
    model = tiny_model("gptj")
    assert "blocks.0.ln2.hook_out" not in model.hooks
    normed, pre = capture(model, tiny_tokens(), ["blocks.0.ln1.hook_out", "blocks.0.mlp.hook_pre"]).values()
    torch.testing.assert_close(model.hf.transformer.h[0].mlp.fc_in(normed), pre)


def test_the_table_of_kinds_names_all_families():
    from interp.families import FAMILIES
    from tests.families import ENCODERS

    tried = {tiny_model(kind).family for kind in (*KINDS, *ENCODERS)}
    assert tried == set(FAMILIES)
