"""Activations that the author of the sorting model computed, in another program, are found under our names."""

import base64
import json

import pytest
import torch

from interp.hooks import capture
from interp.models import load_model

REFERENCE = {
    "tok_emb": "hook_embed",
    "pos_emb": "hook_pos_embed",
    "x": "blocks.0.hook_resid_pre",
    "ln1": "blocks.0.ln1.hook_out",
    "q": "blocks.0.attn.hook_q",
    "k": "blocks.0.attn.hook_k",
    "v": "blocks.0.attn.hook_v",
    "y": "blocks.0.attn.hook_z",
    "yProj": "blocks.0.hook_attn_out",
    "attnResid": "blocks.0.hook_resid_mid",
    "ln2": "blocks.0.ln2.hook_out",
    "fc": "blocks.0.mlp.hook_pre",
    "gelu": "blocks.0.mlp.hook_post",
    "mlp": "blocks.0.hook_mlp_out",
    "mlpResid": "blocks.0.hook_resid_post",
    "block0": "blocks.0.hook_resid_post",
    "block1": "blocks.1.hook_resid_post",
    "block2": "blocks.2.hook_resid_post",
    "ln_f": "ln_final.hook_out",
}


@pytest.fixture(scope="module")
def sorter(data_folder):
    folder = data_folder / "models" / "gpt_nano_sort"
    partials = json.loads((folder / "gpt-nano-sort-t0-partials.json").read_text())
    tensors = {
        name: torch.frombuffer(bytearray(base64.b64decode(entry["data"])), dtype=torch.float32).view(entry["shape"])
        for name, entry in partials.items()
        if name != "config"
    }
    return load_model(str(folder), device="cpu"), tensors


@pytest.mark.parametrize(("theirs", "ours"), REFERENCE.items())
def test_captured_activations_are_the_author_s(sorter, theirs, ours):
    model, reference = sorter
    expected = reference[theirs]
    if expected.ndim == 4:  # [b heads t d_head]
        expected = expected.transpose(1, 2).flatten(2)
    found = capture(model, reference["idx"].long(), [ours])[ours]
    assert float((found - expected).abs().max()) <= 1e-5


def test_logits_are_the_author_s(sorter):
    model, reference = sorter
    with torch.no_grad():
        logits = model.hf(reference["idx"].long()).logits
    torch.testing.assert_close(logits, reference["lm_head"], rtol=0, atol=1e-5)
