"""Settings that cannot work are refused with a reason."""

import pytest

from interp.errors import ConfigError
from saes import SAEConfig


def test_default_prefixes_double_up_to_the_whole_dictionary():
    assert SAEConfig(d_sae=8192).prefix_widths() == (512, 1024, 2048, 4096, 8192)
    assert SAEConfig(d_sae=3, k=1).prefix_widths() == (1, 3)
    assert SAEConfig(architecture="topk").prefix_widths() == (8192,)
    assert SAEConfig(d_sae=8, k=2, prefixes=(3, 8)).prefix_widths() == (3, 8)


def test_other_architectures_are_nested_only_if_they_are_told_to():
    settings = {"architecture": "batch_topk", "d_sae": 64, "k": 2}
    assert SAEConfig(**settings, n_prefixes=3).prefix_widths() == (64,)
    assert SAEConfig(**settings, prefixes=(8, 64)).prefix_widths() == (64,)
    assert SAEConfig(**settings, nest=True, n_prefixes=3).prefix_widths() == (16, 32, 64)
    assert SAEConfig(**settings, nest=True, prefixes=(8, 64)).prefix_widths() == (8, 64)
    assert SAEConfig(**settings, nest=True, prefixes=(64,)).nested is False


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"k": 9, "d_sae": 8}, "k"),
        ({"prefixes": (8, 4), "d_sae": 8, "k": 2}, "prefixes"),
        ({"prefixes": (2, 4), "d_sae": 8, "k": 2}, "prefixes"),
        ({"prefixes": (0, 8), "d_sae": 8, "k": 2}, "prefixes"),
        ({"prefixes": (4, 4, 8), "d_sae": 8, "k": 2}, "prefixes"),
        ({"n_prefixes": 9, "d_sae": 8, "k": 2, "prefix_sampling": "pareto"}, "n_prefixes"),
        ({"n_prefixes": 8, "d_sae": 64, "k": 2}, "n_prefixes"),
        ({"k": 0}, "k"),
        ({"architecture": "standard", "l1_coefficient": 0, "l0_control": True}, "l1_coefficient"),
        ({"architecture": "topkk"}, "architecture"),
        ({"d_ssae": 4}, "d_sae"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], named: str):
    with pytest.raises(ConfigError, match=named):
        SAEConfig.parse(settings)


@pytest.mark.parametrize(
    ("settings", "steered"),
    [
        ({}, True),
        ({"l1_coefficient": 0.3}, False),
        ({"l1_coefficient": 0.3, "l0_target": 5.0}, True),
        ({"l1_coefficient": 0.3, "l0_control": True}, True),
        ({"l0_control": False}, False),
        ({"architecture": "topk"}, False),
    ],
)
def test_a_penalty_weight_that_is_given_alone_stays(settings: dict[str, object], steered: bool):
    assert SAEConfig.parse({"architecture": "standard", **settings}).l0_controlled is steered
