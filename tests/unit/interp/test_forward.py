"""Passes that begin higher up, or are differentiated, are the same passes."""

import pytest
import torch
from torch import Tensor

from interp.components import Component, block_components, write_part
from interp.errors import ConfigError, DataError, ShapeError, UnknownHookError
from interp.forward import Stem, all_outputs, gradients_at, last_outputs
from interp.hooks import capture
from interp.models import Model, load_model
from interp.prompts import PromptPairs, encode_prompts, prompts_of
from tests.families import CONFIGS, ENCODER_CONFIGS, tiny_model

FAMILIES = (*CONFIGS, *ENCODER_CONFIGS)


@pytest.fixture(params=FAMILIES)
def any_model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


def test_a_stem_changes_nothing(any_model: Model) -> None:
    prompts = prompts_of([[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15]])
    with torch.no_grad():
        expected = last_outputs(any_model, prompts)
        for layer in range(any_model.n_layers):
            mask = None if any_model.causal else prompts.real.long()
            resid = capture(any_model, prompts.token_ids, [f"blocks.{layer}.hook_resid_pre"], mask)
            stem = Stem(layer, next(iter(resid.values())))
            torch.testing.assert_close(last_outputs(any_model, prompts, stem=stem), expected, rtol=0, atol=0)
        torch.testing.assert_close(last_outputs(any_model, prompts), expected, rtol=0, atol=0)


def test_last_outputs_are_those_of_all_tokens(any_model: Model) -> None:
    prompts = prompts_of([[5, 6, 7, 8], [9, 10], [11, 12, 13]])
    with torch.no_grad():
        every = all_outputs(any_model, prompts)
        expected = every[torch.arange(3), prompts.last]
        torch.testing.assert_close(last_outputs(any_model, prompts), expected, rtol=1e-5, atol=1e-6)
        if any_model.causal:
            alone = last_outputs(any_model, prompts_of([[9, 10]]))
            torch.testing.assert_close(last_outputs(any_model, prompts)[1:2], alone, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_differences(any_model: Model) -> None:
    prompts = prompts_of([[5, 6, 7], [8, 9, 10]])
    any_model.hf.double()
    hooks = [
        point.name for point in any_model.hooks.values() if point.layer == 0 and point.name != "blocks.0.hook_resid_pre"
    ]
    weight = torch.randn(last_outputs(any_model, prompts).shape[1], dtype=torch.float64)
    found = gradients_at(any_model, prompts, hooks, lambda out: out @ weight)
    for hook in hooks:
        direction = torch.randn_like(found.acts[hook])

        def moved(step: float, hook: str = hook, direction: Tensor = direction) -> Tensor:
            with torch.no_grad():
                return last_outputs(any_model, prompts, {hook: lambda x: x + step * direction}) @ weight

        # Norms and attention of some families compute in float32 whatever they are given: no tiny step, but four.
        numeric = (8 * (moved(2e-3) - moved(-2e-3)) - (moved(4e-3) - moved(-4e-3))) / 24e-3
        exact = (found.grads[hook] * direction).sum((1, 2))
        assert torch.allclose(exact, numeric, rtol=2e-3, atol=1e-3), hook


def test_components_name_their_columns() -> None:
    model = tiny_model("gpt2")
    heads = block_components(model, "head")
    assert len(heads) == model.n_layers * model.sizes.n_heads
    assert heads[1].columns(model) == slice(model.sizes.d_head, 2 * model.sizes.d_head)
    assert str(heads[1].at(3)) == "blocks.0.attn.hook_z.1@3"
    assert Component("neuron", "blocks.0.mlp.hook_post", 2).columns(model) == slice(2, 3)
    with pytest.raises(ConfigError, match="got head 99"):
        Component("head", "blocks.0.attn.hook_z", 99).columns(model)
    with pytest.raises(ConfigError, match="expected a number"):
        Component("head", "blocks.0.attn.hook_z")
    with pytest.raises(UnknownHookError):
        block_components(model, "mlp", layers=[model.n_layers])


def test_parts_are_written_where_they_stand() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    out = write_part(x, torch.zeros(2), slice(1, 3), torch.tensor([0, 2]))
    expected = x.clone()
    expected[0, 0, 1:3] = 0
    expected[1, 2, 1:3] = 0
    assert out.equal(expected)
    assert write_part(x, torch.zeros(4), slice(0, 4), None).eq(0).all()


def test_pairs_must_align() -> None:
    embedded = load_model("embedded", device="cpu")
    clean = encode_prompts(embedded, ["the cat sat", "a dog"])
    with pytest.raises(ShapeError, match="pair 1"):
        PromptPairs(clean, encode_prompts(embedded, ["the cat sat", "a dog ran away"]))


def test_below_the_first_block_gradients_are_those_of_its_input() -> None:
    model = tiny_model("llama")
    prompts = prompts_of([[5, 6, 7], [8, 9, 10]])
    found = gradients_at(model, prompts, ["hook_embed", "blocks.0.hook_resid_pre"], lambda out: out[:, 0])
    assert float(found.grads["hook_embed"].norm()) > 0
    torch.testing.assert_close(found.grads["hook_embed"], found.grads["blocks.0.hook_resid_pre"])
    with pytest.raises(ConfigError, match="hook_pos_embed, which all rows share"):
        gradients_at(tiny_model("gpt2"), prompts, ["hook_pos_embed"], lambda out: out[:, 0])


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="prompt 1 has no token"):
        encode_prompts(tiny_model("gpt2"), ["w5", ""], add_bos=False)
