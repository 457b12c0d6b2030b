"""The causal sweep on generators whose factors are known."""

import numpy as np
import pytest
import torch

from interp.causal_sweep import SWEEP_VALUES, CausalSweep, causal_sweep, model_response
from interp.errors import ArtifactError, ConfigError
from interp.forward import last_outputs
from interp.outcomes import LOGIT_DIFFERENCE, PROBABILITY
from interp.prompts import prompts_of
from tests.families import tiny_model
from tests.specimens import random_sae


def _generator(codes: torch.Tensor) -> torch.Tensor:
    """Factor 0 drives the first outcome monotonely; factor 1 the second, up and down; factor 2 neither."""
    return torch.stack([torch.tanh(codes[:, 0]) + 0.1 * codes[:, 1], codes[:, 1].square()], dim=1)


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return torch.randn(200, 3, generator=torch.Generator().manual_seed(0))


def test_forty_values_over_the_published_range():
    assert len(SWEEP_VALUES) == 40
    assert SWEEP_VALUES[0] == -12.5
    assert SWEEP_VALUES[-1] == 12.5


def test_a_monotone_factor_is_found_and_an_idle_one_is_not(codes):
    found = causal_sweep(_generator, codes)
    assert found.monotone[0, 0] == pytest.approx(1)
    assert found.strongest()[0] == "code 1", "0.1 a unit beats tanh, which is flat far out"
    assert (found.ate.value[2] == 0).all()
    assert (found.slope.value[2] == 0).all()
    # Up as far as down: no net slope, no monotony, and yet an effect.
    assert found.slope.value[1, 1] == pytest.approx(0, abs=1e-5)
    assert found.monotone[1, 1] < 1e-4
    assert found.ate.value[1, 0, 1] > 100


def test_effects_are_those_of_the_generator(codes):
    found = causal_sweep(_generator, codes, swept=[0, 1], values=[-2.0, 0.5, 3.0])
    base = torch.tanh(codes[:, 0]).double().mean()
    expected = torch.tanh(torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)) - base
    np.testing.assert_allclose(found.ate.value[0, :, 0], expected, atol=1e-6)
    np.testing.assert_allclose(found.slope.value[0, 0], (np.tanh(3.0) - np.tanh(-2.0)) / 5, atol=1e-6)
    np.testing.assert_allclose(found.slope.value[1, 0], 0.1, atol=1e-6)
    low, high = found.ate.interval[:, 0, 1, 0]
    assert low < expected[1] < high


def test_a_model_answers_codes_with_its_outcomes():
    model, sae = tiny_model("gpt2"), random_sae("topk")
    prompts = prompts_of([[0, 5, 6, 7], [0, 8, 9], [0, 10, 11]], answers=[5, 6, 7], foils=[8, 9, 10])
    own, respond = model_response(model, prompts, sae, [LOGIT_DIFFERENCE, PROBABILITY])
    untouched = last_outputs(model, prompts).detach()
    torch.testing.assert_close(respond(own)[:, 0], LOGIT_DIFFERENCE(untouched, prompts), rtol=1e-5, atol=1e-5)
    found = causal_sweep(respond, own, swept=[3], values=[-4.0, 0.0, 4.0], outcome_names=["difference", "probability"])
    assert found.ate.value.shape == (1, 3, 2)
    assert np.abs(found.ate.value[0, :, 0]).max() > 0
    # Where the feature is already at zero in every prompt, setting it to zero is no treatment.
    silent = int((own.sum(0) == 0).nonzero()[0])
    idle = causal_sweep(respond, own, swept=[silent], values=[-4.0, 0.0, 4.0])
    np.testing.assert_allclose(idle.ate.value[0, 1], 0, atol=1e-5)


def test_sweeps_come_back_from_disk_and_refuse_what_is_wrong(codes, tmp_path):
    found = causal_sweep(_generator, codes, values=[-1.0, 1.0], clusters=np.arange(200) // 20)
    found.save(tmp_path / "sweep.json")
    assert CausalSweep.load(tmp_path / "sweep.json").to_json() == found.to_json()
    assert "code 2" in found._repr_html_()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no causal sweep"):
        CausalSweep.load(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="ascending"):
        causal_sweep(_generator, codes, values=[1.0, 0.0])
    with pytest.raises(ConfigError, match="got code 7"):
        causal_sweep(_generator, codes, swept=[7])
