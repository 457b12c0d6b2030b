"""Encoders: our names mean what TransformerLens's mean, and every tensor is what the published block computes."""

import math

import pytest
import torch

from interp.hooks import capture
from tests.families import ENCODERS, tiny_model, tiny_tokens
from tests.oracle_names import bridge_name


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_hooks_agree_with_the_bridge(kind):
    model, tokens = tiny_model(kind), tiny_tokens()
    ours = capture(model, tokens, list(model.hooks))
    with torch.no_grad():
        _, theirs = model.bridge.run_with_cache(tokens)
    for name, x in ours.items():
        y = theirs[bridge_name(name)].flatten(2).expand_as(x)
        assert (x - y).abs().max() <= 1e-5 * y.abs().max(), name


def reference(model, tokens, n_real: int) -> dict[str, torch.Tensor]:
    """The encoder written out: post-norm blocks, heads side by side, keys beyond `n_real` hidden.

    Source: Vaswani et al. 2017, section 3; BERT adds learned positions, MPNet a bias by distance.
    """
    weights = dict(model.hf.named_parameters())
    paths, found = model.paths, {}

    def linear(x, path):
        return x @ weights[f"{path}.weight"].T + weights[f"{path}.bias"]

    def norm(x, path):
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return centred / scale * weights[f"{path}.weight"] + weights[f"{path}.bias"]

    first = model.hf.config.pad_token_id + 1 if paths.positions_from_padding else 0
    found["hook_embed"] = weights[f"{paths.embed}.weight"][tokens]
    found["hook_pos_embed"] = weights[f"{paths.pos_embed}.weight"][first : first + tokens.shape[1]].expand(
        *tokens.shape, -1
    )
    x = found["hook_embed"] + found["hook_pos_embed"]
    if paths.token_type_embed:
        found["hook_token_type_embed"] = weights[f"{paths.token_type_embed}.weight"][0].expand_as(x)
        x = x + found["hook_token_type_embed"]
    x = found["embed_ln.hook_out"] = norm(x, paths.embed_ln)
    hidden = torch.arange(tokens.shape[1]) >= n_real
    bias = model.hf.encoder.compute_position_bias(x) if model.family == "mpnet" else 0.0
    for layer in range(model.n_layers):
        block, name = f"{paths.blocks}.{layer}", f"blocks.{layer}"
        found[f"{name}.hook_resid_pre"] = x
        q, k, v = (linear(x, f"{block}.{path}") for path in paths.qkv)
        found |= {f"{name}.attn.hook_{letter}": y for letter, y in zip("qkv", (q, k, v), strict=True)}
        q, k, v = (y.unflatten(-1, (2, 8)).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(-1, -2) / math.sqrt(8) + bias).masked_fill(hidden, -math.inf)
        z = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        found[f"{name}.attn.hook_z"] = z
        attn = found[f"{name}.hook_attn_out"] = linear(z, f"{block}.{paths.z}")
        mid = found[f"{name}.hook_resid_mid"] = x + attn
        normed = found[f"{name}.ln1.hook_out"] = norm(mid, f"{block}.{paths.ln1}")
        pre = found[f"{name}.mlp.hook_pre"] = linear(normed, f"{block}.{paths.mlp_pre}")
        post = found[f"{name}.mlp.hook_post"] = pre * 0.5 * (1 + torch.erf(pre / math.sqrt(2)))
        out = found[f"{name}.hook_mlp_out"] = linear(post, f"{block}.{paths.mlp_post}")
        x = found[f"{name}.ln2.hook_out"] = norm(normed + out, f"{block}.{paths.ln2}")
        found[f"{name}.hook_resid_post"] = x
    return found


@pytest.mark.parametrize("kind", ENCODERS)
def test_hooks_are_what_the_block_computes(kind):
    model, tokens, n_real = tiny_model(kind), tiny_tokens(), 8
    mask = (torch.arange(tokens.shape[1]) < n_real).long().expand_as(tokens)
    ours = capture(model, tokens, list(model.hooks), attention_mask=mask)
    theirs = reference(model, tokens, n_real)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        y = theirs[name]
        assert (x - y).abs().max() <= 1e-5 * y.abs().max(), name
