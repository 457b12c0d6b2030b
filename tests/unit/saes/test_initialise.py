"""Where training starts."""

import math

import pytest
import torch

from interp.errors import DataError, NonFiniteError
from saes import SAEConfig, create_sae, geometric_median, initialise


def test_median_of_symmetric_points_is_their_centre():
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + torch.tensor([3.0, 5.0])
    torch.testing.assert_close(geometric_median(points), torch.tensor([3.0, 5.0]))


def test_median_minimises_the_sum_of_distances_and_resists_outliers():
    points = torch.randn(500, 8)
    points[:20] += 1000

    def cost(centre: torch.Tensor) -> float:
        return float(torch.linalg.vector_norm(points - centre, dim=1).sum())

    median = geometric_median(points)
    assert cost(median) <= min(cost(median + 0.05 * torch.randn(8)) for _ in range(20))
    assert float(torch.linalg.vector_norm(median)) < 1 < float(torch.linalg.vector_norm(points.mean(0)))


def test_start_is_unit_rows_tied_scaled_and_repeatable():
    sae = create_sae(SAEConfig(d_sae=64, k=4, encoder_scale=0.5), 16, hooks_in=("h",))
    sample = torch.randn(400, 16) * 7 + 2
    initialise(sae, sample, seed=3)
    torch.testing.assert_close(torch.linalg.vector_norm(sae.W_dec, dim=1), torch.ones(64))
    torch.testing.assert_close(sae.W_enc, 0.5 * sae.W_dec)
    norms = torch.linalg.vector_norm(sae.centred(sample), dim=1)
    torch.testing.assert_close(norms.mean(), torch.tensor(math.sqrt(16)), rtol=1e-4, atol=0)
    first = sae.W_dec.clone()
    initialise(sae, sample, seed=3)
    assert torch.equal(first, sae.W_dec)
    initialise(sae, sample, seed=4)
    assert not torch.equal(first, sae.W_dec)


def test_unusable_samples_are_refused():
    sae = create_sae(SAEConfig(d_sae=64, k=4), 16, hooks_in=("h",))
    with pytest.raises(DataError):
        initialise(sae, torch.zeros(0, 16), seed=0)
    with pytest.raises(NonFiniteError):
        initialise(sae, torch.full((4, 16), torch.nan), seed=0)


def test_constant_activations_do_not_break_the_start():
    sae = create_sae(SAEConfig(d_sae=64, k=4), 16, hooks_in=("h",))
    initialise(sae, torch.ones(50, 16), seed=0)
    assert all(bool(torch.isfinite(p).all()) for p in sae.parameters())
