"""What a feature or a threshold begins with where decoders are free or thresholds are another SAE's."""

import pytest
import torch

from saes import save_sae
from saes.resampling import ENCODER_SHARE, resample
from saes.warm_start import warm_start
from tests.steps import batch_of, disturb, new_sae, optimiser_of, planted


@pytest.mark.parametrize("norm", ["unit", "free"])
def test_new_encoder_rows_are_a_share_of_the_living_as_they_act(norm):
    sae = disturb(new_sae("standard", dead_features="resample", decoder_norm=norm))
    with torch.no_grad():
        if norm == "free":
            sae.W_dec.mul_(3)
    sae.tokens_since_fired[[3, 10]] = sae.dead_after_tokens
    living = torch.ones(48, dtype=torch.bool).index_fill(0, torch.tensor([3, 10]), False)
    wanted = ENCODER_SHARE * sae.weights().encoder[living].norm(dim=1).mean()
    assert resample(sae, batch_of(planted(200)), optimiser_of(sae)) == 2
    torch.testing.assert_close(sae.weights().encoder[[3, 10]].norm(dim=1), wanted.expand(2))


@pytest.mark.parametrize("architecture", ["topk", "standard", "gated"])
def test_what_trains_no_threshold_takes_none(architecture, tmp_path):
    old = disturb(new_sae("batch_topk"))
    old.threshold.fill_(0.8)
    save_sae(tmp_path / "sae", old, {})
    new = new_sae(architecture, seed=8)
    warm_start(new, tmp_path)
    assert float(new.threshold) == 0
