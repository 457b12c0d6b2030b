"""Settings of a training run that would be taken and then say something untrue are refused."""

import pytest
import torch

from interp.errors import ConfigError
from saes.train_config import TrainConfig
from saes.training import empty_sae, start_sae
from tests.steps import D_IN, D_OUT, batch_of, planted


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hook_out": "h"}, "hook_out"),
        ({"hook_out": "h", "sae": {"skip": True}}, "hook_out"),
        ({"freeze_decoder": True, "warm_start": "runs/other"}, "freeze_decoder"),
    ],
)
def test_what_would_be_ignored_or_mislabelled_is_named(settings, named):
    with pytest.raises(ConfigError, match=named):
        TrainConfig.parse({"hook": "h", **settings})


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_transcoder_has_learned_nothing_from_the_data(frozen):
    config = TrainConfig(hook="h", hook_out="y", freeze_decoder=frozen, sae={"d_sae": 48, "k": 4, "n_prefixes": 1})
    decoders = []
    for seed in (0, 1):
        sae = empty_sae(config, {"h": D_IN, "y": D_OUT})
        start_sae(sae, config, batch_of(planted(500, seed=seed)))
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))
        decoders.append(sae.W_dec)
    assert torch.equal(*decoders) is frozen
