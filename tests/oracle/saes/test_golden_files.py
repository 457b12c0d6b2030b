"""Every format, read and run beside what published formulas give (tests/golden/make.py)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import saes
from interp.code import FeatureDictionary
from saes.formats.detection import format_of
from tests.golden.make import FORMATS, HERE

EXPECTED = sorted(path.relative_to(HERE) for path in HERE.rglob("expected.safetensors"))
RESID, MLP_OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"
HOOKS = {
    "v6_hook_z": "blocks.1.attn.hook_z",
    "gemma-scope-2b-pt-transcoders": "blocks.1.ln2.hook_normalized",
    "transcoder": "blocks.1.ln2.hook_out",
    "groupmax": "blocks.1.hook_attn_out",
    "attn_v4": "blocks.1.hook_attn_out",
}
"""What is not at the residual stream, by a part of the path."""


def _path(folder: Path) -> Path:
    return HERE / folder / "1.pt" if folder.parts[0] == "openai" else HERE / folder


@pytest.mark.parametrize("folder", [path.parent for path in EXPECTED], ids=str)
def test_a_golden_file_gives_what_its_formula_gives(folder):
    expected = load_file(HERE / folder / "expected.safetensors")
    sae, facts = saes.load(_path(folder))
    assert isinstance(sae, FeatureDictionary)
    assert format_of(_path(folder)).name == folder.parts[0]
    code = sae.encode(expected["x"])
    assert code.d_sae == sae.d_sae == expected["acts"].shape[1]
    assert torch.equal(code.dense() > 0, expected["acts"] > 0)
    torch.testing.assert_close(code.dense().detach(), expected["acts"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(code).detach(), expected["output"], rtol=1e-5, atol=2e-5)
    hook = next((hook for part, hook in HOOKS.items() if part in str(folder)), RESID)
    assert facts.hook == hook
    assert sae.hooks_in == (hook,)
    assert sae.hooks_out == ((MLP_OUT,) if "transcoder" in str(folder) else (hook,))


def test_every_format_has_golden_files():
    assert {path.parts[0] for path in EXPECTED} == {make.__name__ for make in FORMATS}


@pytest.mark.parametrize("folder", [path.parent for path in EXPECTED], ids=str)
def test_gradients_reach_the_input_and_agree_with_the_difference_quotient(folder):
    """The reconstruction's change along a small step is the gradient's, where no feature switches."""
    sae, _ = saes.load(_path(folder))
    x = load_file(HERE / folder / "expected.safetensors")["x"].double()
    sae, direction = sae.double(), torch.randn(x.shape, dtype=torch.float64)
    x.requires_grad_()
    total = sae.decode(sae.encode(x)).sum()
    (gradient,) = torch.autograd.grad(total, x)
    with torch.no_grad():
        step = 1e-6 * direction
        difference = sae.decode(sae.encode(x + step)).sum() - sae.decode(sae.encode(x - step)).sum()
    torch.testing.assert_close((gradient * direction).sum() * 2e-6, difference, rtol=1e-4, atol=1e-10)
