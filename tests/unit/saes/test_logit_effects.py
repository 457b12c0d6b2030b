import pytest
import torch

from saes.logit_effects import logit_effects, norm_weight, write_to_stream
from tests.families import ENCODERS, KINDS, tiny_model


def _direct(model, direction):
    """Effect on the logits of a stream that consists of the direction alone, times its norm's scale."""
    final, unembed = model.final_norm, model.unembedding
    large = 1e4 * direction[None, None]
    logits = (unembed(final(large)) - unembed(final(-large)))[0, 0] / 2
    centred = direction - direction.mean() if isinstance(final, torch.nn.LayerNorm) else direction
    return (logits - logits.mean()) * centred.square().mean().sqrt()


@pytest.mark.parametrize("kind", KINDS)
def test_effects_are_those_of_the_direction_alone(kind):
    model = tiny_model(kind)
    directions = torch.randn(5, model.d_model)
    found = logit_effects(model, "blocks.1.hook_resid_post", directions, k=3)
    for index, direction in enumerate(directions):
        expected = _direct(model, direction)
        torch.testing.assert_close(found.raised_logits[index], expected.topk(3).values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            expected[found.lowered_tokens[index]], found.lowered_logits[index], rtol=1e-4, atol=1e-5
        )
        assert (found.lowered_logits[index].diff() >= 0).all()


def test_effects_are_centred_over_the_vocabulary():
    model = tiny_model("llama")
    found = logit_effects(model, "hook_embed", torch.randn(4, 16), k=model.d_vocab)
    torch.testing.assert_close(found.raised_logits.mean(1), torch.zeros(4), rtol=0, atol=1e-5)


def test_the_norms_weight_is_measured():
    norm = torch.nn.LayerNorm(7)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm_weight(norm, 7), norm.weight.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox_parallel"])
@pytest.mark.parametrize(("hook", "out"), [("attn.hook_z", "hook_attn_out"), ("mlp.hook_post", "hook_mlp_out")])
def test_what_a_block_writes_goes_through_its_output_matrix(kind, hook, out):
    model = tiny_model(kind)
    name = f"blocks.1.{hook}"
    directions = torch.randn(3, model.hook(name).width)
    module = model.hf.get_submodule(model.hook(name).module_path)
    expected = module(directions) - module(torch.zeros_like(directions))
    torch.testing.assert_close(write_to_stream(model, name, directions), expected, rtol=1e-4, atol=1e-5)
    assert write_to_stream(model, f"blocks.1.{out}", expected) is expected


@pytest.mark.parametrize(
    ("kind", "hook"),
    [("llama", "blocks.0.attn.hook_q"), ("gemma2", "blocks.0.attn.hook_z"), ("gpt2", "blocks.0.ln1.hook_out")],
)
def test_where_there_is_no_direct_path_nothing_is_shown(kind, hook):
    model = tiny_model(kind)
    found = logit_effects(model, hook, torch.randn(2, model.hook(hook).width), k=3)
    assert found.raised_tokens.tolist() == [[-1] * 3] * 2
    assert found.lowered_logits.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_has_no_path_to_a_next_token(kind):
    model = tiny_model(kind)
    found = logit_effects(model, "blocks.1.hook_resid_post", torch.randn(2, model.d_model))
    assert (found.raised_tokens == -1).all()
    assert (found.lowered_tokens == -1).all()
