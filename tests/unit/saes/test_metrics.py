import numpy as np
import pytest
import torch

from interp.code import Code
from interp.errors import DataError
from saes.metrics import (
    DocumentSums,
    FiringCounts,
    VarianceSums,
    document_bootstrap,
    loss_recovered,
    share_unexplained,
    sink_mask,
)

# Mean (1, 2); each corner is 1 + 4 away from it, so the scatter is 20. Errors 1, 0, 4, 0 sum to 5.
CORNERS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
GUESSES = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 4.0]])


def test_explained_variance_of_a_case_solved_by_hand():
    sums = VarianceSums.of(CORNERS, GUESSES)
    assert (sums.scatter, sums.error) == (20.0, 5.0)
    assert sums.fvu == 0.25
    assert sums.explained_variance == 0.75


def test_the_mean_is_the_data_sets_and_not_the_batchs():
    # Within the batches {0, 0} and {4, 4} nothing varies: only their means differ.
    low, high = torch.zeros(2, 1), torch.full((2, 1), 4.0)
    sums = VarianceSums.of(low, low + 1) + VarianceSums.of(high, high)
    assert sums.scatter == 16.0
    assert sums.explained_variance == 1 - 2 / 16


def test_sums_do_not_depend_on_how_tokens_are_split():
    x, x_hat = torch.randn(1000, 5) + 3, torch.randn(1000, 5)
    whole = VarianceSums.of(x, x_hat)
    for cuts in ([1, 998], [500], [10, 20, 30, 990], [0, 1000]):
        parts = [VarianceSums.of(a, b) for a, b in zip(x.tensor_split(cuts), x_hat.tensor_split(cuts), strict=True)]
        merged = sum(parts[1:], parts[0])
        assert merged.n_tokens == 1000
        assert merged.scatter == pytest.approx(whole.scatter, rel=1e-12)
        assert merged.error == pytest.approx(whole.error, rel=1e-12)
        torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=0)


def test_a_large_offset_cancels_nothing():
    x = torch.randn(4096, 3, dtype=torch.float64) + 1e8
    parts = [VarianceSums.of(part, part) for part in x.split(100)]
    exact = float((x - x.mean(0)).square().sum())
    assert sum(parts[1:], parts[0]).scatter == pytest.approx(exact, rel=1e-9)


def test_the_mean_explains_nothing_and_the_input_everything():
    x = torch.randn(50, 4)
    assert VarianceSums.of(x, x).explained_variance == 1.0
    assert VarianceSums.of(x, x.mean(0).expand_as(x)).explained_variance == pytest.approx(0.0, abs=1e-6)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="do not vary"):
        _ = VarianceSums.of(torch.ones(3, 2), torch.zeros(3, 2)).fvu


def test_firing_counts_by_hand():
    firing = FiringCounts(4)
    firing.add(Code.from_dense(torch.tensor([[1.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0]])))
    # A zero in a code is not a firing.
    firing.add(Code(torch.tensor([0.0]), torch.tensor([1]), torch.tensor([0, 1, 1]), 4))
    assert firing.density().tolist() == [0.5, 0.0, 0.25, 0.0]
    assert firing.l0() == 0.75
    assert firing.l0(prefix=1) == 0.5
    assert firing.dead_share() == 0.5
    assert firing.dense_share() == 0.5


def test_document_sums_by_hand():
    sums = DocumentSums(2)
    sums.add(torch.tensor([5, 0, 5]), torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]))
    sums.add(torch.tensor([7, 0]), torch.tensor([[4.0, 40.0], [5.0, 50.0]]))
    assert sums.n_documents == 3
    assert sums.array().tolist() == [[7.0, 70.0], [4.0, 40.0], [4.0, 40.0]]


def test_documents_that_agree_leave_no_doubt():
    sums = np.tile([[1.0, 4.0]], (30, 1))
    assert document_bootstrap(sums, share_unexplained, seed=0) == (0.25, 0.25)


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    table = np.stack([values, np.ones(400)], axis=1)
    low, high = document_bootstrap(table, share_unexplained, seed=1, n_resamples=4000)
    error = values.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_tokens_of_a_document_are_not_counted_as_independent():
    generator = np.random.default_rng(0)
    effect = generator.normal(size=(20, 1))
    tokens = effect + 0.1 * generator.normal(size=(20, 100))
    by_document = np.stack([tokens.sum(1), np.full(20, 100.0)], axis=1)
    by_token = np.stack([tokens.ravel(), np.ones(2000)], axis=1)
    wide = document_bootstrap(by_document, share_unexplained, seed=0)
    narrow = document_bootstrap(by_token, share_unexplained, seed=0)
    assert wide[1] - wide[0] > 5 * (narrow[1] - narrow[0])


def test_one_document_gives_no_interval():
    with pytest.raises(DataError, match="at least 2"):
        document_bootstrap(np.ones((1, 2)), share_unexplained, seed=0)


def test_loss_recovered_by_hand():
    assert loss_recovered(clean=2.0, ablated=6.0, spliced=3.0) == 0.75
    assert loss_recovered(clean=2.0, ablated=6.0, spliced=6.0) == 0.0
    assert loss_recovered(clean=2.0, ablated=2.0, spliced=3.0) is None


def test_sinks_are_told_by_their_norm():
    assert sink_mask(torch.tensor([1.0, 10.0, 10.5]), median=1.0).tolist() == [False, False, True]
