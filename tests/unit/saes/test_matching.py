"""Which latent stands for which known feature, and how well its firing detects it: cases solved by hand."""

from itertools import permutations

import pytest
import torch

from interp.errors import ShapeError
from saes.matching import detection, detection_from_counts, match_by_cosine, pair


def test_a_permuted_and_rescaled_dictionary_is_matched_back():
    truth = torch.linalg.qr(torch.randn(6, 6)).Q
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    decoder = torch.empty(6, 6)
    decoder[order] = truth * torch.tensor([1.0, 2, 3, 4, 5, 6])[:, None]
    matching = match_by_cosine(truth, decoder)
    assert matching.latent.tolist() == order.tolist()
    torch.testing.assert_close(matching.cosine, torch.ones(6, dtype=torch.float64))


def test_the_sum_counts_where_the_nearest_latent_is_wanted_twice():
    truth = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    decoder = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    matching = match_by_cosine(truth, decoder)
    assert matching.latent.tolist() == [0, 1]
    torch.testing.assert_close(matching.cosine, torch.tensor([1.0, 0.6], dtype=torch.float64), atol=1e-6, rtol=0)


def test_no_other_assignment_has_a_larger_sum_of_positive_cosines_and_no_latent_is_used_twice():
    truth, decoder = torch.randn(4, 5), torch.randn(6, 5)
    cosine = torch.nn.functional.cosine_similarity(truth[:, None], decoder[None], dim=2)
    best = max(sum(max(float(cosine[i, j]), 0) for i, j in enumerate(chosen)) for chosen in permutations(range(6), 4))
    matching = match_by_cosine(truth, decoder)
    assert len(set(matching.latent.tolist())) == 4
    assert float(matching.cosine.clamp(min=0).sum()) == pytest.approx(best, abs=0.01)


def test_an_opposite_direction_is_no_match():
    matching = match_by_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))
    assert matching.latent.tolist() == [1]


def test_a_feature_that_was_found_keeps_its_latent_whatever_is_left_for_another():
    truth = torch.eye(2)
    found, left_over = torch.tensor([0.94, 0.23]), torch.tensor([0.47, -0.8])
    matching = match_by_cosine(truth, torch.stack([left_over, found]))
    assert matching.latent.tolist() == [1, 0]


def test_fewer_latents_than_features_are_refused():
    with pytest.raises(ShapeError, match="got 2 latents for 3 true features"):
        match_by_cosine(torch.randn(3, 4), torch.randn(2, 4))


def test_precision_recall_and_f1_by_hand():
    truth = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 0], [0, 1, 0]], dtype=torch.bool)
    fires = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    found = detection(fires, truth)
    torch.testing.assert_close(found.precision, torch.tensor([1 / 3, 1, 0], dtype=torch.float64))
    torch.testing.assert_close(found.recall, torch.tensor([1 / 2, 1 / 2, 0], dtype=torch.float64))
    torch.testing.assert_close(found.f1, torch.tensor([2 / 5, 2 / 3, 0], dtype=torch.float64))


def test_a_latent_that_is_always_on_has_full_recall_and_the_base_rate_as_precision():
    truth = torch.rand(1000, 1) < 0.15
    found = detection(torch.ones_like(truth), truth)
    assert float(found.recall[0]) == 1
    assert float(found.precision[0]) == pytest.approx(float(truth.float().mean()))


def test_pairs_are_made_one_to_one_whichever_side_has_more():
    likeness = torch.tensor([[0.9, 0.8, 0.0], [0.85, 0.1, 0.0]], dtype=torch.float64)
    wide, tall = pair(likeness), pair(likeness.t())
    assert (wide.feature.tolist(), wide.latent.tolist()) == ([0, 1], [1, 0])
    assert (tall.feature.tolist(), tall.latent.tolist()) == ([0, 1], [1, 0])
    torch.testing.assert_close(wide.likeness, torch.tensor([0.8, 0.85], dtype=torch.float64))


def test_counts_give_the_same_detection_as_firings():
    truth, fires = torch.rand(200, 5) < 0.3, torch.rand(200, 5) < 0.3
    counted = detection_from_counts((fires & truth).sum(0), fires.sum(0), truth.sum(0))
    precision = counted.precision
    assert torch.equal(detection(fires, truth).precision, precision)
    harmonic = 2 * precision * counted.recall / (precision + counted.recall)
    torch.testing.assert_close(counted.f1, harmonic)
