"""Matched features are as alike as the dictionary has them, and never the chosen ones."""

import pytest
import torch

from interp.errors import ConfigError
from interp.studies.matched_features import NEAREST, FeatureTraits, matched_sets
from tests.specimens import random_sae


def test_traits_are_counted_by_hand():
    sae = random_sae("topk")
    x = torch.randn(50, 16)
    traits = FeatureTraits.of(sae, x)
    dense = sae.encode(x).dense().detach()
    torch.testing.assert_close(traits.density, (dense > 0).float().mean(0))
    feature = int(traits.density.argmax())
    acts = dense[:, feature]
    norm = sae.directions(torch.tensor([feature])).detach().norm()
    torch.testing.assert_close(traits.written[feature], acts[acts > 0].mean() * norm)


def test_the_most_alike_come_first_and_the_silent_never():
    density = torch.tensor([0.1, 0.1, 0.5, 0.11, 0.0, 0.1])
    written = torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, 90.0])
    assert FeatureTraits(density, written).alike(0).tolist()[:2] == [1, 3]
    assert 4 not in FeatureTraits(density, written).alike(0).tolist()


def test_sets_hold_no_feature_twice_and_none_of_the_chosen():
    generator = torch.Generator().manual_seed(0)
    traits = FeatureTraits(torch.rand(200, generator=generator) + 0.01, torch.rand(200, generator=generator) + 0.01)
    chosen = torch.tensor([7, 8, 9])
    sets = matched_sets(traits, chosen, 50, seed=1)
    assert sets.shape == (50, 3)
    assert not torch.isin(sets, chosen).any()
    assert all(len(set(row)) == 3 for row in sets.tolist())
    pool = set(traits.alike(7).tolist()[: NEAREST + 2])
    assert set(sets[:, 0].tolist()) <= pool
    assert sets.equal(matched_sets(traits, chosen, 50, seed=1))
    with pytest.raises(ConfigError, match="choose fewer"):
        matched_sets(FeatureTraits(torch.tensor([1.0, 1.0, 0.0]), torch.ones(3)), torch.tensor([0, 1]), 5, seed=0)
