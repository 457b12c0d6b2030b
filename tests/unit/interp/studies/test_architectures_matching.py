"""One number added to all thresholds brings an SAE to any L0 that its positive activations allow."""

import pytest
import torch

from interp.studies.architectures_matching import left_alone, match_l0
from saes.architectures import create_sae
from saes.config import SAEConfig
from saes.initialise import initialise

N_TOKENS, D_IN = 400, 12


def _sae(architecture):
    sample = torch.randn(N_TOKENS, D_IN, generator=torch.Generator().manual_seed(1)) * 3 + 1
    sae = create_sae(SAEConfig(architecture=architecture, d_sae=40, k=5), D_IN, hooks_in=("h",))
    initialise(sae, sample, seed=0)
    with torch.no_grad():
        if architecture == "jumprelu":
            sae.threshold.copy_(torch.linspace(0.05, 0.9, 40))
        else:
            sae.threshold.fill_(0.3)
    return sae, sample


def _active(sae, sample):
    return sae.encode(sample).dense() > 0


@pytest.mark.parametrize("architecture", ["jumprelu", "batch_topk", "matryoshka"])
@pytest.mark.parametrize("l0", [1.0, 4.0, 9.5])
def test_the_wanted_l0_is_reached_to_the_entry(architecture, l0):
    sae, sample = _sae(architecture)
    matching = match_l0(sae, sample, l0)
    assert matching.l0_after == sae.encode(sample).l0()
    # Rounding may decide about the one value next to the threshold.
    assert abs(matching.l0_after - l0) * N_TOKENS <= 1.5


@pytest.mark.parametrize("architecture", ["jumprelu", "batch_topk"])
def test_matching_again_changes_nothing(architecture):
    sae, sample = _sae(architecture)
    match_l0(sae, sample, 4.0)
    before = _active(sae, sample)
    again = match_l0(sae, sample, 4.0)
    assert abs(again.shift) < 1e-5
    assert int((_active(sae, sample) ^ before).sum()) <= 1


def test_differences_between_thresholds_stay_where_none_reaches_zero():
    sae, sample = _sae("jumprelu")
    before = sae.threshold.detach().clone()
    matching = match_l0(sae, sample, sae.encode(sample).l0() / 2)
    assert matching.shift > 0
    torch.testing.assert_close(sae.threshold.detach(), before + matching.shift)


def test_what_is_active_at_a_lower_l0_is_active_at_a_higher_one():
    sae, sample = _sae("jumprelu")
    match_l0(sae, sample, 3.0)
    few = _active(sae, sample)
    match_l0(sae, sample, 6.0)
    many = _active(sae, sample)
    assert bool((few <= many).all())
    assert int(many.sum()) > int(few.sum())


@pytest.mark.parametrize("architecture", ["jumprelu", "batch_topk"])
def test_more_than_is_positive_gives_all_that_is_positive(architecture):
    sae, sample = _sae(architecture)
    pre = sae.centred(sample) @ sae.W_enc.T + sae.b_enc
    matching = match_l0(sae, sample, 40.0)
    assert float(sae.threshold.detach().abs().max()) == 0.0
    assert matching.l0_after == pytest.approx(float((pre > 0).sum()) / N_TOKENS, abs=1e-9)


def test_what_is_left_alone_keeps_its_l0():
    sae, sample = _sae("topk")
    found = left_alone(sae, sample)
    assert (found.shift, found.l0_before) == (None, found.l0_after)
    assert found.l0_after == 5.0
