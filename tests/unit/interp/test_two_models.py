"""A second model that reads the same tokens: its hooks stand beside the first's."""

import pytest
import torch

from interp.errors import ConfigError, ModelError, UnknownHookError
from interp.hooks import capture, edit
from interp.models import wrap_model
from saes import TrainConfig
from tests.families import tiny_model, tiny_tokens

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def pair():
    """A model and a changed copy of it."""
    base, tuned = tiny_model("llama"), tiny_model("llama")
    with torch.no_grad():
        for parameter in tuned.hf.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    tuned = wrap_model(tuned.hf, base.tokenizer, name="tuned")
    return base, tuned, base.beside("other", tuned)


def test_each_hook_is_captured_in_its_own_model(pair):
    base, tuned, both = pair
    token_ids = tiny_tokens()
    acts = capture(both, token_ids, [f"other:{HOOK}", HOOK])
    assert list(acts) == [f"other:{HOOK}", HOOK]
    assert torch.equal(acts[HOOK], capture(base, token_ids, [HOOK])[HOOK])
    assert torch.equal(acts[f"other:{HOOK}"], capture(tuned, token_ids, [HOOK])[HOOK])
    assert not torch.equal(acts[HOOK], acts[f"other:{HOOK}"])


def test_an_edit_reaches_the_model_that_the_hook_names(pair):
    base, tuned, both = pair
    token_ids = tiny_tokens()
    with torch.no_grad():
        before, before_tuned = base.hf(token_ids).logits, tuned.hf(token_ids).logits
        with edit(both, {f"other:{HOOK}": torch.zeros_like}):
            assert torch.equal(base.hf(token_ids).logits, before)
            assert not torch.equal(tuned.hf(token_ids).logits, before_tuned)
        assert torch.equal(tuned.hf(token_ids).logits, before_tuned)


def test_the_manifest_tells_both_and_names_are_checked(pair):
    _, tuned, both = pair
    assert both.facts["others"]["other"]["content_hash"] == tuned.content_hash
    assert both.hook(f"other:{HOOK}").width == tuned.d_model
    with pytest.raises(UnknownHookError):
        both.hook("other:blocks.9.hook_resid_post")
    with pytest.raises(UnknownHookError):
        both.hook(f"third:{HOOK}")


def test_models_that_read_other_tokens_are_refused(pair):
    base, tuned, _ = pair
    encoder = tiny_model("bert")
    with pytest.raises(ModelError, match="expected the same tokenizer"):
        base.beside("other", encoder)
    with pytest.raises(ModelError, match="expected the same tokenizer"):
        encoder.beside("other", tuned)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"other_model": "somewhere"}, "no hook of it"),
        ({"more_hooks": [HOOK]}, "each hook once"),
        ({"more_hooks": ["blocks.2.hook_resid_post"], "hook_out": "blocks.2.hook_mlp_out"}, "leave more_hooks out"),
        ({"sae": {"skip": True}}, "give hook_out too"),
        ({"hook_out": "blocks.2.hook_mlp_out", "sae": {"architecture": "gated"}}, "got gated for a transcoder"),
    ],
)
def test_wirings_that_make_no_sense_are_named(settings, told):
    with pytest.raises(ConfigError, match=told):
        TrainConfig.parse({"hook": HOOK, **settings})
