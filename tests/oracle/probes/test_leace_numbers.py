"""LEACE: published numbers, its promise to the last digit, and what it does not promise."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from probes.erasure import (
    AffineEraser,
    cross_covariance,
    fit_inlp,
    fit_leace,
    fit_mean_projection,
    mean_square_change,
    one_hot,
)
from probes.nonlinear import fit_nonlinear
from probes.probe_tasks import Inner


def _inner(n):
    validate = np.arange(n) % 4 == 0
    return Inner(~validate, validate)


@pytest.fixture(scope="module")
def two_classes():
    return make_classification(n_samples=2048, n_features=128, n_classes=2, random_state=42)


def _accuracy(x, y):
    return LogisticRegression(max_iter=1000).fit(x, y).score(x, y)


def test_the_known_numbers_of_2048_examples_in_128_dimensions(two_classes):
    x, y = two_classes
    leace, mean = fit_leace(x, one_hot(y, 2)), fit_mean_projection(x, y, n_classes=2)
    assert round(_accuracy(x, y), 3) == 0.887
    assert _accuracy(leace(x), y) == max(y.mean(), 1 - y.mean())
    assert round(max(y.mean(), 1 - y.mean()), 3) == 0.501
    assert round(mean_square_change(leace, x), 2) == 3.58
    assert round(mean_square_change(mean, x), 2) == 4.13
    assert cross_covariance(leace(x), y, 2) < 1e-14
    assert leace.n_removed == mean.n_removed == 1


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_no_covariance_with_any_class_is_left_and_no_eraser_moves_less(n_classes):
    draw = np.random.default_rng(n_classes)
    y = draw.integers(0, n_classes, 500)
    x = draw.normal(size=(500, 24)) @ draw.normal(size=(24, 24)) + 2 * draw.normal(size=(n_classes, 24))[y]
    leace, mean = fit_leace(x, one_hot(y, n_classes)), fit_mean_projection(x, y, n_classes=n_classes)
    assert leace.n_removed == mean.n_removed == n_classes - 1
    for eraser in (leace, mean):
        once = eraser(x)
        assert cross_covariance(once, y, n_classes) < 1e-12
        np.testing.assert_allclose(eraser(once), once, atol=1e-9)
    assert mean_square_change(leace, x) < mean_square_change(mean, x)
    # Any other affine map that keeps its promise: erase again along any oblique direction beside.
    centred = x - x.mean(0)
    for _ in range(20):
        other = np.eye(24) + 0.05 * draw.normal(size=(24, 24))
        rival = AffineEraser(leace.centre, other @ leace.projection)
        assert np.abs(rival(x)[y == 0].mean(0) - rival(x)[y == 1].mean(0)).max() < 1e-9
        assert mean_square_change(rival, x) > mean_square_change(leace, x)
    assert np.abs(centred.mean(0)).max() < 1e-9


def test_it_is_the_same_map_whatever_the_concept_is_counted_in():
    draw = np.random.default_rng(0)
    z = draw.normal(size=(300, 2))
    x = draw.normal(size=(300, 10)) + z @ draw.normal(size=(2, 10))
    plain, mixed = fit_leace(x, z), fit_leace(x, 3 * z @ np.array([[1.0, 2.0], [0.0, 1.0]]) - 5)
    np.testing.assert_allclose(plain.projection, mixed.projection, atol=1e-9)
    turn = np.linalg.qr(draw.normal(size=(10, 10)))[0]
    turned = fit_leace(x @ turn, z)
    np.testing.assert_allclose(turned(x @ turn), plain(x) @ turn, atol=1e-9)


def test_activations_that_do_not_fill_their_space_stay_in_theirs():
    draw = np.random.default_rng(1)
    y = draw.integers(0, 3, 400)
    inside = draw.normal(size=(400, 5)) + draw.normal(size=(3, 5))[y]
    basis = draw.normal(size=(5, 12))
    x = inside @ basis
    erased = fit_leace(x, one_hot(y, 3))(x)
    assert cross_covariance(erased, y, 3) < 1e-12
    assert np.linalg.matrix_rank(erased - erased.mean(0), tol=1e-8) == 3


def test_only_a_linear_guarantee_a_network_still_reads_what_is_not_linear():
    draw = np.random.default_rng(2)
    y = draw.integers(0, 2, 1500)
    x = draw.normal(size=(1500, 6))
    # The class turns a sign, and shifts the mean: the shift is all that a linear eraser can take.
    x[:, 0] = np.where(y == 1, np.abs(x[:, 0]), -np.abs(x[:, 0])) * np.sign(x[:, 1])
    x[:, 2] += y
    erased = fit_leace(x[:1000], one_hot(y[:1000], 2))(x)
    network = fit_nonlinear(erased[:1000], y[:1000], _inner(1000), n_classes=2)
    assert network.right(erased[1000:], y[1000:]).mean() > 0.85
    assert _accuracy(erased[:1000], y[:1000]) < 0.56


def test_inlp_leaves_a_linear_probe_little_and_takes_more_dimensions_for_it(two_classes):
    x, y = two_classes
    eraser = fit_inlp(x, y, _inner(y.size), n_classes=2, rounds=10)
    assert 1 <= eraser.n_removed <= 10
    np.testing.assert_allclose(eraser.projection, eraser.projection.T, atol=1e-9)
    np.testing.assert_allclose(eraser.projection @ eraser.projection, eraser.projection, atol=1e-9)
    assert _accuracy(eraser(x), y) < 0.62
