"""Weights of the loss terms."""

import pytest
import torch

from saes import SAEConfig, create_sae
from saes.losses import aux_weight, prefix_weights
from saes.matryoshka import draw_prefixes


def test_weights_of_each_variant():
    assert prefix_weights("sum", 3) == (0.0, 1.0, 1.0, 1.0)
    assert prefix_weights("mean", 4) == (0.0, 0.25, 0.25, 0.25, 0.25)
    assert prefix_weights("mean_with_bias", 3) == (0.25, 0.25, 0.25, 0.25)


@pytest.mark.parametrize("variant", ["sum", "mean"])
def test_dead_feature_loss_stands_to_the_mean_prefix_loss(variant):
    # Equal prefix errors e make the mean prefix loss e; the dead-feature loss then weighs coefficient · e against it.
    total = sum(prefix_weights(variant, 5))
    assert aux_weight(variant, 5, 1 / 32) / total == pytest.approx(1 / 32)


def test_drawn_prefixes_are_distinct_ascending_and_repeatable():
    def draw(seed: int) -> tuple[int, ...]:
        return draw_prefixes(20, 10, 0.5, torch.Generator().manual_seed(seed))

    widths = draw(0)
    assert len(set(widths)) == 10
    assert list(widths) == sorted(widths)
    assert widths[-1] == 20
    assert draw(0) == widths
    assert len({draw(seed) for seed in range(10)}) > 5


def test_small_prefixes_are_drawn_more_often():
    first = [draw_prefixes(1000, 2, 0.5, torch.Generator().manual_seed(seed))[0] for seed in range(400)]
    share = sum(width <= 10 for width in first) / len(first)
    expected = (1 - 11**-0.5) / (1 - 1000**-0.5)
    assert abs(share - expected) < 0.1


def test_prefixes_are_redrawn_at_every_step_and_by_the_step_alone():
    config = SAEConfig(d_sae=64, k=4, prefix_sampling="pareto", n_prefixes=5)
    sae = create_sae(config, 16, hooks_in=("h",))
    drawn = []
    for n in range(4):
        sae.n_updates.fill_(n)
        drawn.append(sae.prefix_widths())
    assert len(set(drawn)) > 1
    sae.n_updates.fill_(2)
    assert sae.prefix_widths() == drawn[2]
