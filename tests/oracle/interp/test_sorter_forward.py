"""The sorting model's forward pass written out again in NumPy: every hook of every block holds what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy import ndarray
from safetensors.numpy import load_file

from interp.hooks import capture
from interp.models import load_model


def _norm(x: ndarray, w: dict[str, ndarray], name: str) -> ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _gelu(x: ndarray) -> ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _block(x: ndarray, w: dict[str, ndarray], layer: int, n_heads: int) -> dict[str, ndarray]:
    name, (b, t, d) = f"transformer.h.{layer}", x.shape
    acts = {"hook_resid_pre": x, "ln1.hook_out": _norm(x, w, f"{name}.ln_1")}
    fused = acts["ln1.hook_out"] @ w[f"{name}.attn.c_attn.weight"] + w[f"{name}.attn.c_attn.bias"]
    for letter, part in zip("qkv", np.split(fused, 3, axis=-1), strict=True):
        acts[f"attn.hook_{letter}"] = part
    q, k, v = (acts[f"attn.hook_{letter}"].reshape(b, t, n_heads, -1).swapaxes(1, 2) for letter in "qkv")
    scores = q @ k.swapaxes(2, 3) / np.sqrt(d / n_heads)
    scores = np.where(np.tril(np.ones((t, t), dtype=bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    acts["attn.hook_z"] = (weights @ v).swapaxes(1, 2).reshape(b, t, d)
    acts["hook_attn_out"] = acts["attn.hook_z"] @ w[f"{name}.attn.c_proj.weight"] + w[f"{name}.attn.c_proj.bias"]
    acts["hook_resid_mid"] = x + acts["hook_attn_out"]
    acts["ln2.hook_out"] = _norm(acts["hook_resid_mid"], w, f"{name}.ln_2")
    acts["mlp.hook_pre"] = acts["ln2.hook_out"] @ w[f"{name}.mlp.c_fc.weight"] + w[f"{name}.mlp.c_fc.bias"]
    acts["mlp.hook_post"] = _gelu(acts["mlp.hook_pre"])
    acts["hook_mlp_out"] = acts["mlp.hook_post"] @ w[f"{name}.mlp.c_proj.weight"] + w[f"{name}.mlp.c_proj.bias"]
    acts["hook_resid_post"] = acts["hook_resid_mid"] + acts["hook_mlp_out"]
    return {f"blocks.{layer}.{hook}": value for hook, value in acts.items()}


@pytest.fixture(scope="module")
def folder(data_folder: Path) -> Path:
    return data_folder / "models" / "gpt_nano_sort"


def test_every_hook_holds_what_a_forward_pass_written_out_gives(folder: Path) -> None:
    model, config = load_model(str(folder), device="cpu"), json.loads((folder / "config.json").read_text())
    w = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    ids = torch.tensor([[2, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1], [0, 0, 2, 2, 1, 1, 0, 0, 1, 1, 2]])
    expected = {
        "hook_embed": w["transformer.wte.weight"][ids],
        "hook_pos_embed": w["transformer.wpe.weight"][:11][None],
    }
    x = expected["hook_embed"] + expected["hook_pos_embed"]
    for layer in range(config["n_layer"]):
        expected |= _block(x, w, layer, config["n_head"])
        x = expected[f"blocks.{layer}.hook_resid_post"]
    expected["ln_final.hook_out"] = _norm(x, w, "transformer.ln_f")
    found = capture(model, ids, list(model.hooks))
    assert set(found) == set(expected)
    for hook, value in found.items():
        np.testing.assert_allclose(
            value.numpy(), np.broadcast_to(expected[hook], value.shape), rtol=1e-4, atol=2e-5, err_msg=hook
        )
