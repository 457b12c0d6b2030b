"""A pass over the ends of rows is the whole pass where nothing before them is edited."""

import pytest
import torch

from interp.component_values import standing
from interp.forward import Stem, last_outputs
from interp.models import Model
from interp.prompts import prompts_of
from interp.suffix_passes import Prefixes, suffix_outputs
from tests.families import CONFIGS, tiny_model, tiny_tokens


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@torch.no_grad()
def test_the_end_of_a_pass_is_the_pass(model: Model) -> None:
    ids = tiny_tokens(3, 12).tolist()
    prompts = prompts_of([ids[0], ids[1][:9], ids[2]])
    prefixes = Prefixes.of(model, prompts)
    assert prefixes is not None
    copies = prompts.repeat(2)
    shift = torch.randn(6, 1, model.d_model)
    for layer, start in ((0, 7), (2, 8), (1, 1)):
        name = f"blocks.{layer}.hook_mlp_out"

        def moved(x: torch.Tensor, at: int) -> torch.Tensor:
            x[:, at : at + 1] += shift
            return x

        expected = last_outputs(model, copies, {name: lambda x, at=start: moved(x, at)})
        resid = standing(model, prompts, [f"blocks.{layer}.hook_resid_pre"])[f"blocks.{layer}.hook_resid_pre"]
        stem = Stem(layer, resid[:, start:].repeat(2, 1, 1))
        found = suffix_outputs(model, copies, start, prefixes, {name: lambda x: moved(x, 0)}, stem)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        # The last block's output at an earlier token, or one beyond all windows, is read by nobody.
        assert layer != 0 or not torch.allclose(expected[:3], expected[3:])


def test_an_encoder_has_no_prefix() -> None:
    assert Prefixes.of(tiny_model("bert"), prompts_of([[5, 6, 7]])) is None
