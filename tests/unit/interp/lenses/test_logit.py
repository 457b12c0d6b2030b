import pytest
import torch

from interp.errors import ConfigError, ModelError, UnknownHookError
from interp.hooks import capture
from interp.lenses.logit import divergence, last_hook, lens_hooks, logit_lens, reconstruction_of
from tests.families import ENCODERS, KINDS, tiny_model, tiny_tokens
from tests.planted import WIDTH, PlantedDictionary, coordinates


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_last_layer_the_lens_is_the_model(kind):
    model, tokens = tiny_model(kind), tiny_tokens()
    hidden = capture(model, tokens, [last_hook(model)])[last_hook(model)]
    with torch.no_grad():
        expected = model.hf(tokens).logits
    torch.testing.assert_close(logit_lens(model, hidden), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox_parallel", "llama", "gemma2"])
def test_the_norms_statistics_are_those_of_the_state_itself(kind):
    """A norm that took them from elsewhere would not undo a change of scale."""
    model = tiny_model(kind)
    hidden = capture(model, tiny_tokens(), ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"] * 50
    torch.testing.assert_close(logit_lens(model, hidden * 7), logit_lens(model, hidden), rtol=1e-3, atol=1e-3)


def test_lenses_read_the_embedding_and_every_block_in_order():
    model = tiny_model("llama")
    posts = [f"blocks.{layer}.hook_resid_post" for layer in range(3)]
    assert lens_hooks(model) == ("blocks.0.hook_resid_pre", *posts)
    assert lens_hooks(model, [posts[2], posts[0]]) == (posts[0], posts[2])


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_refused_in_one_line_that_says_what_to_do(kind):
    with pytest.raises(ModelError, match=r"got an encoder; a lens needs the unembedding.*`interp probe`"):
        lens_hooks(tiny_model(kind))


def test_hooks_outside_the_residual_stream_are_refused():
    model = tiny_model("llama")
    with pytest.raises(ConfigError, match=r"blocks\.1\.hook_mlp_out; a lens reads the residual stream"):
        lens_hooks(model, ["blocks.1.hook_mlp_out"])
    with pytest.raises(UnknownHookError, match="its blocks are 0 to 2"):
        lens_hooks(model, ["blocks.7.hook_resid_post"])


def test_divergence_is_that_of_the_definition():
    teacher, lens = torch.randn(5, 7), torch.randn(5, 7)
    p, q = teacher.softmax(-1), lens.softmax(-1)
    expected = torch.stack(
        [sum(a * torch.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)]
    )
    torch.testing.assert_close(divergence(teacher, lens), expected)
    torch.testing.assert_close(divergence(teacher, teacher + 3.0), torch.zeros(5), atol=1e-6, rtol=0)


def test_a_dictionary_stands_in_for_the_states_at_its_hook():
    (hook, reconstruct), *more = reconstruction_of(coordinates(0, 2)).items()
    x = torch.randn(6, WIDTH)
    kept = torch.zeros_like(x)
    kept[:, [0, 2]] = x[:, [0, 2]].clamp(min=0)
    assert (hook, more) == ("blocks.0.hook_resid_post", [])
    torch.testing.assert_close(reconstruct(x), kept)


def test_a_transcoder_reconstructs_nothing():
    eye = torch.eye(WIDTH)
    other = PlantedDictionary(eye, eye, torch.zeros(WIDTH), hooks_out=("blocks.1.hook_mlp_out",))
    with pytest.raises(ConfigError, match=r"reads blocks.0.hook_resid_post and writes blocks.1.hook_mlp_out"):
        reconstruction_of(other)
