"""Linear probes: optima by another route, and what must not change when the inputs are only written differently."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax

from interp.errors import DataError, NonFiniteError, ShapeError
from probes.linear import Standardised, fit_logistic_path, iter_path, validation_loss
from probes.mean_difference import fit_in_distribution, fit_mean_difference
from probes.nonlinear import fit_nonlinear
from probes.probe_tasks import Inner


def _inner(n, *, share=0.3):
    validate = np.arange(n) >= (1 - share) * n
    return Inner(~validate, validate)


@pytest.fixture(scope="module")
def three_classes():
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 240)
    x = draw.normal(size=(240, 6)) @ draw.normal(size=(6, 6)) + 2 * draw.normal(size=(3, 6))[y] + 5
    return x, y


def test_a_path_ends_at_the_optimum_that_another_solver_finds(three_classes):
    x, y = three_classes
    *_, probe = iter_path(x, y, n_classes=3, cs=(0.01, 0.1))
    z = (x - x.mean(0)) / x.std(0)

    def loss(parameters):
        weight, bias = parameters[:18].reshape(3, 6), parameters[18:]
        nats = -log_softmax(z @ weight.T + bias, axis=1)[np.arange(y.size), y].sum()
        return 0.1 * nats + 0.5 * np.square(weight).sum()

    best = minimize(loss, np.zeros(21), method="BFGS", options={"gtol": 1e-6}).x
    reference = log_softmax(z @ best[:18].reshape(3, 6).T + best[18:], axis=1)
    np.testing.assert_allclose(probe.log_probabilities(x), reference, atol=5e-3, rtol=0)


def test_the_strength_is_the_one_of_lowest_loss_on_what_was_left_out(three_classes):
    x, y = three_classes
    inner = _inner(y.size)
    fit = fit_logistic_path(x, y, inner, n_classes=3, cs=(1e-4, 1e-2, 1.0))
    losses = [
        validation_loss(probe, x[inner.validate], y[inner.validate])
        for probe in iter_path(x[inner.fit], y[inner.fit], n_classes=3, cs=(1e-4, 1e-2, 1.0))
    ]
    assert fit.c == fit.cs[int(np.argmin(losses))]
    np.testing.assert_allclose(fit.validation_nats, losses)
    with pytest.raises(ShapeError, match="too few documents"):
        fit_logistic_path(x, y, Inner(np.ones(y.size, bool), np.zeros(y.size, bool)), n_classes=3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 250.0])
def test_units_and_order_of_the_inputs_change_no_answer(three_classes, scale):
    x, y = three_classes
    order = np.random.default_rng(1).permutation(x.shape[1])
    plain = fit_logistic_path(x, y, _inner(y.size), n_classes=3)
    moved = fit_logistic_path(scale * x[:, order] - 7, y, _inner(y.size), n_classes=3)
    assert plain.c == moved.c
    found = moved.probe.log_probabilities(scale * x[:, order] - 7)
    np.testing.assert_allclose(found, plain.probe.log_probabilities(x), atol=2e-2)


def test_naming_the_classes_otherwise_only_renames_the_answers(three_classes):
    x, y = three_classes
    renamed = np.array([2, 0, 1])
    plain = fit_logistic_path(x, y, _inner(y.size), n_classes=3).probe
    other = fit_logistic_path(x, renamed[y], _inner(y.size), n_classes=3).probe
    assert (renamed[plain.predict(x)] == other.predict(x)).mean() > 0.99


def test_a_class_without_example_is_never_answered_and_inputs_that_stand_still_weigh_nothing(three_classes):
    x, y = three_classes
    still = np.concatenate([x, np.full((y.size, 1), 3.0)], axis=1)
    *_, probe = iter_path(still, y, n_classes=5, cs=(1.0,))
    assert set(probe.predict(still)) <= {0, 1, 2}
    assert not probe.weight[:, -1].any()
    (lonely,) = iter_path(x, np.full(y.size, 3), n_classes=5, cs=(1.0,))
    assert set(lonely.predict(x)) == {3}


def test_sparse_and_dense_inputs_give_the_same_probe_where_only_the_scale_differs():
    draw = np.random.default_rng(2)
    x = draw.random((150, 8)) * (draw.random((150, 8)) < 0.3)
    y = (x[:, 0] > 0).astype(int)
    dense, sparse = Standardised.of(x), Standardised.of(csr_array(x))
    np.testing.assert_allclose(sparse.scale, dense.scale)
    one, two = (next(iter_path(each, y, n_classes=2, cs=(1.0,))) for each in (x, csr_array(x)))
    np.testing.assert_allclose(two.log_probabilities(csr_array(x)), one.log_probabilities(x), atol=5e-3, rtol=0)


def test_two_class_means_are_cut_half_way_along_their_difference(three_classes):
    x, y = three_classes
    x, y = x[y < 2], y[y < 2]
    means = np.stack([x[y == index].mean(0) for index in (0, 1)])
    probe = fit_mean_difference(x, y, n_classes=2)
    theta = probe.weight[1] - probe.weight[0]
    np.testing.assert_allclose(theta, means[1] - means[0])
    middle = probe.score(means.mean(0)[None])
    assert middle[0, 0] == pytest.approx(middle[0, 1], abs=1e-9)
    # The nearest of the two means, computed outright.
    nearest = np.square(x[:, None] - means).sum(-1).argmin(1)
    assert (probe.predict(x) == nearest).all()


def test_mean_difference_does_not_see_rotations_and_the_in_distribution_one_sees_through_any_mixing():
    draw = np.random.default_rng(3)
    y = draw.integers(0, 2, 6000)
    plain = draw.normal(size=(6000, 4)) + y[:, None] * np.array([0.7, 0.7, 0, 0])
    rotation = np.linalg.qr(draw.normal(size=(4, 4)))[0]
    mean = fit_mean_difference(plain, y, n_classes=2)
    turned = fit_mean_difference(plain @ rotation, y, n_classes=2)
    assert (mean.predict(plain) == turned.predict(plain @ rotation)).all()
    mixing = rotation @ np.diag([3, 1, 1, 0.3]) @ np.linalg.qr(draw.normal(size=(4, 4)))[0]
    mixed = plain @ mixing
    before = fit_in_distribution(plain, y, n_classes=2).predict(plain)
    after = fit_in_distribution(mixed, y, n_classes=2).predict(mixed)
    assert (before == after).mean() > 0.98
    assert (after == y).mean() > fit_mean_difference(mixed, y, n_classes=2).right(mixed, y).mean() + 0.03


def test_a_mean_needs_an_example():
    with pytest.raises(ShapeError, match="class 2"):
        fit_mean_difference(np.eye(4), np.array([0, 0, 1, 1]), n_classes=3)


def test_only_the_network_reads_what_is_not_linear():
    draw = np.random.default_rng(4)
    x = draw.normal(size=(1200, 5))
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    inner = _inner(800)
    network = fit_nonlinear(x[:800], y[:800], inner, n_classes=2, hidden=32)
    linear = fit_logistic_path(x[:800], y[:800], inner, n_classes=2).probe
    assert network.right(x[800:], y[800:]).mean() > 0.9
    assert linear.right(x[800:], y[800:]).mean() < 0.6


def test_the_network_is_the_same_each_time():
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=(60, 3)), draw.integers(0, 2, 60)
    one, two = (fit_nonlinear(x, y, _inner(60), n_classes=2, hidden=4) for _ in range(2))
    np.testing.assert_array_equal(one.score(x), two.score(x))


def test_examples_that_no_probe_can_be_fitted_on_are_told(three_classes):
    x, y = three_classes
    inner = _inner(y.size)
    both = Inner(inner.fit | inner.validate, inner.validate)
    with pytest.raises(ShapeError, match=f"got {inner.validate.sum()} examples in both inner.fit and inner.validate"):
        fit_logistic_path(x, y, both, n_classes=3)
    for wrong, n_classes in ((y, 2), (y - 1, 3)):
        with pytest.raises(DataError, match=rf"^y: got label (2|-1); expected 0 to {n_classes - 1}"):
            fit_logistic_path(x, wrong, inner, n_classes=n_classes)
    for poison in (np.nan, np.inf):
        bad = x.copy()
        bad[5, 2] = poison
        for given in (bad, csr_array(bad)):
            with pytest.raises(NonFiniteError, match=r"^x: got 1 NaN or infinite inputs"):
                fit_logistic_path(given, y, inner, n_classes=3)
    with pytest.raises(ShapeError, match="got lengths"):
        fit_logistic_path(x, y, _inner(y.size - 1), n_classes=3)
