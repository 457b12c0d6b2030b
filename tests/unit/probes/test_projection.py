"""Taking out a direction: idempotent, and no linear trace is left on the fitted examples."""

import numpy as np
import pytest

from probes.projection import leace_eraser, mean_difference_eraser


@pytest.fixture
def labelled():
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(12, 12))
    y = draw.random(200) < 0.4
    x = draw.normal(size=(200, 12)) @ mixing + 3 + y[:, None] * draw.normal(size=12)
    return x, y


@pytest.mark.parametrize("fit", [leace_eraser, mean_difference_eraser])
def test_erasing_twice_is_erasing_once(fit, labelled):
    eraser = fit(*labelled)
    once = eraser(labelled[0])
    np.testing.assert_allclose(eraser(once), once, atol=1e-9)


@pytest.mark.parametrize("fit", [leace_eraser, mean_difference_eraser])
def test_the_classes_have_the_same_mean_afterwards(fit, labelled):
    x, y = labelled
    erased = fit(x, y)(x)
    np.testing.assert_allclose(erased[y].mean(0), erased[~y].mean(0), atol=1e-9)


def test_leace_changes_less_than_the_mean_difference_does_in_the_datas_own_metric(labelled):
    x, y = labelled
    precision = np.linalg.inv(np.cov(x.T))

    def change(eraser):
        moved = eraser(x) - x
        return float(np.einsum("nd,de,ne->", moved, precision, moved))

    assert change(leace_eraser(x, y)) < change(mean_difference_eraser(x, y))


@pytest.mark.parametrize("fit", [leace_eraser, mean_difference_eraser])
def test_a_moved_component_is_the_sources(fit, labelled):
    x, y = labelled
    eraser = fit(x, y)
    source = x[::-1]
    moved = eraser.moved(x, source)
    np.testing.assert_allclose(moved @ eraser.along, source @ eraser.along, atol=1e-9)
    np.testing.assert_allclose(eraser(moved), eraser(x), atol=1e-9)
