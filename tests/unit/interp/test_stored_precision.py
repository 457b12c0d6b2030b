"""Weights as they are stored: bfloat16, in shards, quantised. What is computed is told, what is missing is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interp.errors import MissingDependencyError, ModelError
from interp.hooks import capture
from interp.models import load_model
from interp.weights import linear_matrix
from tests.families import save_model, tiny_model, tiny_tokens
from tests.quantised import HOOK, PACKAGES

ROOT = Path(__file__).parents[3]


def set_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_bfloat16_in_shards_is_computed_in_float32_unless_asked_otherwise(tmp_path, kind):
    model = tiny_model(kind)
    model.hf.bfloat16()
    folder = str(save_model(model, tmp_path / "m", max_shard_size="4KB"))
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 2
    wide, narrow = load_model(folder, device="cpu"), load_model(folder, device="cpu", dtype="bfloat16")
    x, y = (capture(m, tiny_tokens(), [HOOK])[HOOK] for m in (wide, narrow))
    assert (x.dtype, y.dtype) == (torch.float32, torch.bfloat16)
    assert wide.content_hash == narrow.content_hash
    # The weights are the same, the sums are rounded to 8 bits.
    assert 0 < (x - y.float()).abs().max() <= 0.05 * x.abs().max()
    assert wide.facts["dtype"] == "float32"
    assert "quantisation" not in wide.facts


@pytest.mark.parametrize(
    ("method", "package"),
    [("torchao", "torchao"), ("bitsandbytes", "bitsandbytes"), ("gptq", "gptqmodel"), ("quanto", "optimum-quanto")],
)
def test_a_quantised_folder_says_what_to_install(tmp_path, monkeypatch, method, package):
    folder = save_model(tiny_model("llama"), tmp_path / "m")
    set_config(folder, quantization_config={"quant_method": method})
    monkeypatch.setattr("interp.quantised.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=f"quantised with {method}.*pip install {package}") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"bits": 4}, "int8", {"quant_method": None}])
def test_a_quantisation_without_a_method_is_told(tmp_path, settings):
    folder = save_model(tiny_model("llama"), tmp_path / "m")
    set_config(folder, quantization_config=settings)
    with pytest.raises(ModelError, match="names no quant_method"):
        load_model(str(folder))


def test_a_method_that_transformers_does_not_know_is_told_in_one_line(tmp_path):
    folder = save_model(tiny_model("llama"), tmp_path / "m")
    set_config(folder, quantization_config={"quant_method": "tea leaves"})
    with pytest.raises(ModelError, match=r"'tea leaves'; transformers knows .*torchao"):
        load_model(str(folder))


@pytest.mark.parametrize("method", ["torchao", "bitsandbytes"])
def test_a_quantised_model_is_harvested(tmp_path, method):
    if not (PACKAGES / method).is_dir():
        pytest.skip(f"{method} is not installed; pip install --no-deps --target {PACKAGES} {method}")
    command = [sys.executable, "-m", "tests.quantised", method, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(PACKAGES)])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["quantisation"] == method
    assert 0 < told["activations"] <= 0.05
    assert 0 < told["matrix"] <= 0.02
    assert "cannot be shuffled" in told["shuffling"]


class Scaled(torch.nn.Linear):
    """As fp8 modules are: a floating-point weight whose scale stands beside it."""

    def forward(self, x):
        return 0.01 * super().forward(x)


class Buffered(torch.nn.Module):
    """As GPTQ's and AWQ's are: no parameter, weights in buffers of their own form."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("qweight", matrix.T.contiguous())

    def forward(self, x):
        return x @ self.qweight.to(x.dtype) + 1


def test_a_package_s_module_is_what_it_does_to_unit_vectors():
    matrix = torch.randn(5, 3)
    scaled = Scaled(3, 5)
    scaled.weight = torch.nn.Parameter(100 * matrix)
    for module in (scaled, Buffered(matrix)):
        torch.testing.assert_close(linear_matrix(module, 3, torch.float32), matrix)


@pytest.mark.parametrize(
    ("kind", "path"), [("gpt2", "transformer.h.0.mlp.c_fc"), ("llama", "model.layers.0.mlp.up_proj")]
)
def test_a_plain_module_s_matrix_is_its_weight(kind, path):
    module = tiny_model(kind).hf.get_submodule(path)
    x = torch.randn(3, 16)
    expected = module(x) - module(torch.zeros_like(x))
    torch.testing.assert_close(x @ linear_matrix(module, 16, torch.float32).T, expected)
