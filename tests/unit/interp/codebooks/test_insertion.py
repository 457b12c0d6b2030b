"""Codebooks in a model: what flows on, what learns, what is left when they are taken out."""

import copy

import pytest
import torch

from interp.code import FeatureDictionary
from interp.codebooks.dictionary import CodebookDictionary
from interp.codebooks.insertion import Codebooks, Insertion, new_codebooks, site_hooks
from interp.codebooks.names import CodeName
from interp.errors import ConfigError, ModelError, UnknownHookError
from interp.hooks import capture, edit
from interp.weights import hash_weights
from tests.families import KINDS, tiny_model, tiny_tokens

SITES = ("attn", "mlp", "resid")


def _codebooks(model, at=SITES, layers=(), **more):
    torch.manual_seed(3)
    return new_codebooks(model, site_hooks(model, at, layers), **({"n_codes": 7, "k": 2} | more))


@pytest.mark.parametrize("kind", KINDS)
def test_what_flows_on_is_codes_and_removal_leaves_no_trace(kind):
    model, ids = tiny_model(kind), tiny_tokens()
    codebooks = _codebooks(model, layers=(1,))
    before, hashed = model.hf(ids).logits, hash_weights(model.hf)
    n_hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())
    with Insertion(model, codebooks) as insertion:
        changed = model.hf(ids).logits
        seen = insertion.take()
        acts = capture(model, ids, codebooks.hooks)
    assert list(seen) == list(codebooks.hooks)
    assert not torch.allclose(changed, before)
    for hook, found in seen.items():
        quantiser = codebooks[hook]
        torch.testing.assert_close(acts[hook], quantiser.combined(found.ids).flatten(-2), rtol=0, atol=1e-6)
    assert codebooks["blocks.1.attn.hook_z"].n_groups == model.sizes.n_heads
    assert codebooks["blocks.1.hook_mlp_out"].n_groups == 1
    assert torch.equal(model.hf(ids).logits, before)
    assert hash_weights(model.hf) == hashed
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules()) == n_hooks


def test_heads_are_quantised_apart():
    model, ids = tiny_model("gpt2"), tiny_tokens()
    codebooks = _codebooks(model, ("attn",), (0,), k=1)
    quantiser = codebooks["blocks.0.attn.hook_z"]
    z = capture(model, ids, ("blocks.0.attn.hook_z",))["blocks.0.attn.hook_z"]
    changed = z.clone()
    changed[..., 8:] = torch.randn_like(changed[..., 8:])
    assert torch.equal(quantiser(z).ids[..., 0, :], quantiser(changed).ids[..., 0, :])
    assert not torch.equal(quantiser(z).ids[..., 1, :], quantiser(changed).ids[..., 1, :])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox_parallel"])
def test_gradients_reach_every_parameter_below_a_bottleneck(kind):
    model, ids = tiny_model(kind), tiny_tokens()
    model.hf.requires_grad_(True)
    codebooks = _codebooks(model)
    with Insertion(model, codebooks):
        model.hf(ids, use_cache=False).logits.square().mean().backward()
    for name, parameter in [*model.hf.named_parameters(), *codebooks.named_parameters()]:
        assert parameter.grad is not None, name
        # Keys' biases shift all scores of a query alike.
        if not name.endswith(("k_proj.bias", "c_attn.bias", "query_key_value.bias")):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("site", SITES)
def test_a_codebook_is_a_dictionary_that_stands_in_for_its_bottleneck(site):
    model, ids = tiny_model("gpt2"), tiny_tokens()
    codebooks = _codebooks(model, (site,))
    hook = codebooks.hooks[1]
    dictionary = CodebookDictionary(hook, codebooks[hook])
    assert isinstance(dictionary, FeatureDictionary)
    assert dictionary.d_sae == 7 * codebooks[hook].n_groups
    with Insertion(model, codebooks):
        expected = model.hf(ids).logits

    def replaced(x):
        return dictionary.decode(dictionary.encode(x.flatten(0, 1))).view_as(x)

    with Insertion(model, codebooks, without=(hook,)), edit(model, {hook: replaced}):
        torch.testing.assert_close(model.hf(ids).logits, expected)


def test_a_dictionary_adds_its_directions():
    model = tiny_model("gpt2")
    quantiser = _codebooks(model, ("attn",), combine="mean")["blocks.0.attn.hook_z"]
    dictionary, x = CodebookDictionary("blocks.0.attn.hook_z", quantiser), torch.randn(6, 16)
    code = dictionary.encode(x)
    assert code.l0() == 4
    by_directions = code.dense() @ dictionary.directions(torch.arange(dictionary.d_sae))
    torch.testing.assert_close(dictionary.decode(code), by_directions)
    first = code.dense()[:, :7] @ dictionary.directions(torch.arange(7))
    torch.testing.assert_close(dictionary.decode(code, prefix=7), first)


def test_chosen_codes_take_the_place_of_the_nearest():
    model, ids = tiny_model("gpt2"), tiny_tokens()
    codebooks = _codebooks(model, ("mlp",))
    hook = codebooks.hooks[0]
    forced = torch.tensor([5, 6]).expand(*ids.shape, 1, 2)
    with Insertion(model, codebooks, choose={hook: lambda _: forced}) as insertion:
        model.hf(ids)
        assert torch.equal(insertion.seen[hook].ids, forced)
    # Choosing what is nearest anyway changes nothing.
    with Insertion(model, codebooks):
        expected = model.hf(ids).logits
    with Insertion(model, codebooks, choose={hook: lambda nearest: nearest}):
        assert torch.equal(model.hf(ids).logits, expected)


def test_no_codebooks_change_nothing():
    model, ids = tiny_model("llama"), tiny_tokens()
    before = model.hf(ids).logits
    with Insertion(model, Codebooks({})):
        assert torch.equal(model.hf(ids).logits, before)


def test_places_that_are_not_there_are_refused():
    model = tiny_model("gpt2")
    with pytest.raises(ConfigError, match="layers: got 3"):
        site_hooks(model, ("attn",), (3,))
    with pytest.raises(ModelError, match="encoder"):
        site_hooks(tiny_model("bert"), ("attn",))
    codebooks = _codebooks(model, ("attn",))
    with pytest.raises(UnknownHookError, match="there are codebooks at"):
        Insertion(model, codebooks, without=("blocks.0.hook_mlp_out",))
    assert site_hooks(model, SITES, (2, 0)) == (
        "blocks.0.attn.hook_z", "blocks.0.hook_mlp_out", "blocks.0.hook_resid_post",
        "blocks.2.attn.hook_z", "blocks.2.hook_mlp_out", "blocks.2.hook_resid_post",
    )  # fmt: skip


def test_names_of_codes_go_there_and_back():
    codebooks = _codebooks(tiny_model("gpt2"))
    for text in ("0.attn.1.6", "2.mlp.0.3", "1.resid.0.0"):
        assert str(CodeName.parse(text, codebooks)) == text
    for text, says in (("1.attn.2.0", "groups 0 to 1"), ("1.mlp.0.7", "codes 0 to 6"), ("x", "such as 2.attn")):
        with pytest.raises(ConfigError, match=says):
            CodeName.parse(text, codebooks)


def test_a_copy_of_the_model_is_not_touched():
    model, ids = tiny_model("gpt2"), tiny_tokens()
    twin = copy.deepcopy(model.hf)
    with Insertion(model, _codebooks(model)):
        assert torch.equal(twin(ids).logits, tiny_model("gpt2").hf(ids).logits)
