import pytest
import torch

from interp.errors import ArtifactError
from interp.hooks import edit
from saes.formats.model_processing import normalisation_for
from tests.families import tiny_model, tiny_tokens

RESID, Z, POST = "blocks.1.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.mlp.hook_post"
CENTRED = {"center_writing_weights": True}


@pytest.mark.parametrize("hook", ["hook_embed", "blocks.0.hook_attn_out", "blocks.2.hook_mlp_out", RESID])
def test_the_stream_of_a_centred_model_is_the_raw_one_without_its_mean(hook):
    model, tokens = tiny_model("gpt2"), tiny_tokens()
    raw = _at(model, hook, tokens)
    _centre_writing_weights(model.hf)
    torch.testing.assert_close(_at(model, hook, tokens), raw - raw.mean(-1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert normalisation_for(CENTRED, hook) == "centre"


@pytest.mark.parametrize("hook", [Z, POST])
def test_what_reads_the_stream_through_a_norm_is_the_same_in_a_centred_model(hook):
    model, tokens = tiny_model("gpt2"), tiny_tokens()
    raw = _at(model, hook, tokens)
    _centre_writing_weights(model.hf)
    torch.testing.assert_close(_at(model, hook, tokens), raw, rtol=1e-4, atol=1e-5)
    assert normalisation_for(CENTRED, hook) is None


def _centre_writing_weights(hf):
    """Take the mean over d_model off everything that is added to the stream."""
    with torch.no_grad():
        for table in (hf.transformer.wte, hf.transformer.wpe):
            table.weight -= table.weight.mean(1, keepdim=True)
        for block in hf.transformer.h:
            for matrix in (block.attn.c_proj, block.mlp.c_proj):
                matrix.weight -= matrix.weight.mean(1, keepdim=True)
                matrix.bias -= matrix.bias.mean()


def _at(model, hook, tokens):
    seen = []

    def keep(x):
        seen.append(x.clone())
        return x

    with torch.no_grad(), edit(model, {hook: keep}):
        model.hf(input_ids=tokens)
    return seen[0]


@pytest.mark.parametrize(
    ("kwargs", "hook"),
    [
        ({}, RESID),
        ({"fold_ln": True, "center_unembed": True}, RESID),
        ({"fold_value_biases": True, "refactor_factored_attn_matrices": True}, RESID),
        ({"center_writing_weights": False, "device": "cuda", "dtype": "float16", "n_devices": 2}, RESID),
        ({"revision": "main"}, RESID),
        ({"fold_ln": True}, Z),
    ],
)
def test_what_changes_nothing_at_the_hook_is_taken_as_it_is(kwargs, hook):
    assert normalisation_for(kwargs, hook) is None


@pytest.mark.parametrize(
    ("kwargs", "hook"),
    [
        ({"fold_value_biases": True}, Z),
        ({"refactor_factored_attn_matrices": True}, "blocks.0.attn.hook_q"),
        ({"fold_ln": True}, "blocks.0.ln1.hook_normalized"),
        ({"center_writing_weights": True}, "blocks.0.ln1.hook_scale"),
        ({"revision": "step3000"}, RESID),
        ({"load_in_8bit": True}, RESID),
    ],
)
def test_what_changes_activations_is_refused_with_the_reason(kwargs, hook):
    with pytest.raises(ArtifactError, match=f"{next(iter(kwargs))}=.*changes what stands at {hook}"):
        normalisation_for(kwargs, hook)
