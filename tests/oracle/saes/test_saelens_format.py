"""What we write, read by SAELens's published formulas. SAELens itself reads it in tests/peers."""

import json

import pytest
import torch
from safetensors.torch import load_file

from saes.io import save_sae
from tests.specimens import random_sae
from tests.steps import batch_of, new_sae, optimiser_of, planted, step

ARCHITECTURES = ("topk", "batch_topk", "matryoshka", "standard", "gated", "jumprelu")
NORMS = ("unit", "free")


def _specimen(architecture, norm):
    sae = random_sae(architecture, decoder_norm=norm)
    with torch.no_grad():
        sae.input_scale.fill_(0.6)
    return sae


def _by_formula(folder, x):
    """SAELens 6: sae_lens/saes/{topk,jumprelu,standard,gated}_sae.py, encode and decode."""
    values, w = json.loads((folder / "cfg.json").read_text()), load_file(folder / "sae_weights.safetensors")
    pre = (x - w["b_dec"] * values["apply_b_dec_to_input"]) @ w["W_enc"]
    if values["architecture"] == "gated":
        acts = (pre + w["b_gate"] > 0) * (pre * w["r_mag"].exp() + w["b_mag"]).relu()
        return acts, acts @ w["W_dec"] + w["b_dec"]
    pre = pre + w["b_enc"]
    acts = pre.relu()
    if values["architecture"] == "topk":
        top = pre.topk(values["k"], dim=-1)
        acts = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    elif values["architecture"] == "jumprelu":
        acts = acts * (pre > w["threshold"])
    return acts, acts @ w["W_dec"] + w["b_dec"]


def assert_agrees(sae, x, acts, output):
    code = sae.encode(x)
    assert torch.equal(code.dense() > 0, acts > 0)
    torch.testing.assert_close(code.dense().detach(), acts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sae.decode(code).detach(), output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_folder_means_the_same_by_saelenss_formulas(tmp_path, architecture, norm):
    sae, x = _specimen(architecture, norm), torch.randn(200, 16)
    save_sae(tmp_path / "sae", sae, {})
    assert_agrees(sae, x, *_by_formula(tmp_path / "sae", x))


TENSORS = {
    "gated": {"W_enc": (16, 48), "W_dec": (48, 16), "b_dec": (16,), "b_gate": (48,), "b_mag": (48,), "r_mag": (48,)},
    "jumprelu": {"W_enc": (16, 48), "W_dec": (48, 16), "b_dec": (16,), "b_enc": (48,), "threshold": (48,)},
    "standard": {"W_enc": (16, 48), "W_dec": (48, 16), "b_dec": (16,), "b_enc": (48,)},
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("architecture", TENSORS)
def test_what_was_trained_is_written_as_saelens_names_it(tmp_path, architecture, norm):
    sae = new_sae(architecture, decoder_norm=norm)
    optimiser = optimiser_of(sae)
    for seed in range(5):
        step(sae, optimiser, batch_of(planted(128, seed=seed)))
    save_sae(tmp_path / "sae", sae, {})
    tensors = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == TENSORS[architecture]
    values, x = json.loads((tmp_path / "sae" / "cfg.json").read_text()), planted(200, seed=9)
    assert (values["architecture"], values["metadata"]["training_architecture"]) == (architecture, architecture)
    assert_agrees(sae, x, *_by_formula(tmp_path / "sae", x))
