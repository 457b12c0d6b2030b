"""The same name means the same tensor as in TransformerLens, on random and on real models."""

import sys
from types import SimpleNamespace

import pytest
import torch

from interp.hooks import capture
from interp.models import Model, load_model
from tests.families import KINDS, tiny_model, tiny_tokens

REAL = ("stories260K", "babyllama105", "gpt_nano_sort")


def worst_difference(model: Model, token_ids: torch.Tensor) -> dict[str, float]:
    """Largest difference from the bridge at every hook, relative to the tensor's largest entry."""
    ours = capture(model, token_ids, list(model.hooks))
    with torch.no_grad():
        _, theirs = model.bridge.run_with_cache(token_ids)
    differences = {}
    for name, x in ours.items():
        # The bridge keeps heads apart: [b t heads d_head].
        head_shape = model.hook(name).head_shape
        assert theirs[name].shape[2:] == (head_shape or x.shape[2:])
        y = theirs[name].flatten(2)
        assert x.shape == y.shape == (*token_ids.shape, model.hook(name).width)
        differences[name] = float((x - y).abs().max() / y.abs().max())
    return differences


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models_agree_with_the_bridge_at_every_hook(kind):
    differences = worst_difference(tiny_model(kind), tiny_tokens())
    assert max(differences.values()) <= 1e-5, differences


@pytest.mark.parametrize("folder", REAL)
def test_real_models_agree_with_the_bridge_at_every_hook(data_folder, folder):
    model = load_model(str(data_folder / "models" / folder), device="cpu")
    token_ids = torch.randint(model.d_vocab, (4, min(model.context_size, 64)))
    differences = worst_difference(model, token_ids)
    assert max(differences.values()) <= 1e-5, differences


def test_booting_the_bridge_leaves_the_model_as_it_was():
    model = tiny_model("llama")
    before = model.hf(tiny_tokens()).logits
    modules = dict(model.hf.named_modules())
    attention = model.hf.config._attn_implementation
    model.bridge.run_with_cache(tiny_tokens())
    assert dict(model.hf.named_modules()) == modules
    assert model.hf.config._attn_implementation == attention
    assert torch.equal(model.hf(tiny_tokens()).logits, before)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_the_bridge_are_the_model_s(kind):
    model = tiny_model(kind)
    with torch.no_grad():
        torch.testing.assert_close(model.bridge(tiny_tokens()), model.hf(tiny_tokens()).logits)


def test_a_bridge_installs_nothing(monkeypatch):
    from transformer_lens.model_bridge.sources.transformers import helpers

    bridge, called = tiny_model("llama").bridge, []
    monkeypatch.setattr("subprocess.check_call", lambda *given, **more: called.append(given))
    # As it asks for a model that also sees, in a folder that holds no processor, with torchvision out of reach.
    monkeypatch.setitem(sys.modules, "torchvision", None)
    helpers.load_modality_processor(bridge, SimpleNamespace(is_multimodal=True), "nowhere", False, None)
    assert called == []
