"""Group-lasso probes: optimal by its own conditions, sparse where inputs are the tasks' own, and not where mixed."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from interp.errors import ShapeError
from probes import group_sparse
from probes.group_sparse import TaskExamples, iter_group_sparse


def _tasks(x, *, pairs=((0, 1), (2, 3), (4, 5))):
    """Each task asks about two inputs of its own."""
    draw = np.random.default_rng(0)
    read = draw.normal(size=(len(pairs), 3, 2)) * 3
    answers = [(x[:, list(pair)] @ read[index].T).argmax(1) for index, pair in enumerate(pairs)]
    return {f"task {index}": y for index, y in enumerate(answers)}


@pytest.fixture(scope="module")
def planted():
    x = np.random.default_rng(1).normal(size=(600, 20))
    return x, _tasks(x)


def _fits(x, answers, **how):
    return list(iter_group_sparse({name: TaskExamples(x, y, 3) for name, y in answers.items()}, **how))


def test_each_task_uses_its_own_inputs_alone(planted):
    x, answers = planted
    fit = _fits(x, answers, shares=(0.3,))[0]
    assert dict(fit.used) == {"task 0": (0, 1), "task 1": (2, 3), "task 2": (4, 5)}
    # Sharing the groups, every task uses the inputs of all.
    shared = _fits(x, answers, shares=(0.1,), shared=True)[0]
    assert set.union(*map(set, shared.used.values())) >= {0, 1, 2, 3, 4, 5}
    assert len(set(shared.used.values())) == 1


def test_mixed_inputs_need_more_of_them_for_the_same_accuracy(planted):
    x, answers = planted
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 20)))[0]

    def needed(inputs, name):
        for fit in _fits(inputs, answers):
            if fit.probes[name].right(inputs, answers[name]).mean() > 0.9:
                return len(fit.used[name])
        return inputs.shape[1]

    for name in answers:
        assert needed(x, name) <= 4
        assert needed(x @ turn, name) >= 10


def test_weights_meet_the_conditions_of_the_optimum(planted):
    x, answers = planted
    y = answers["task 0"]
    z = (x - x.mean(0)) / x.std(0)
    frequencies = np.bincount(y, minlength=3) / y.size
    empty = np.sqrt(np.square((frequencies - np.eye(3)[y]).T @ z / y.size).sum(0)).max()
    fit = _fits(x, {"task 0": y}, shares=(0.2,))[0]
    weight = fit.probes["task 0"].weight * x.std(0)
    error = softmax(fit.probes["task 0"].score(x), axis=1) - np.eye(3)[y]
    gradient = error.T @ z / y.size
    norm, slope = np.linalg.norm(weight, axis=0), np.linalg.norm(gradient, axis=0)
    used = norm > 0
    assert 0 < used.sum() < 20
    assert (slope[~used] <= 0.2 * empty * 1.001).all()
    np.testing.assert_allclose(gradient[:, used], -0.2 * empty * weight[:, used] / norm[used], atol=2e-3 * empty)
    np.testing.assert_allclose(error.mean(0), 0, atol=1e-3)


def test_the_largest_penalty_leaves_nothing_and_smaller_ones_never_less(planted):
    x, answers = planted
    sizes = [len(fit.used["task 0"]) for fit in _fits(x, answers, shares=(1.0, 0.5, 0.2, 0.05))]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)


def test_sparse_inputs_do_and_widths_must_agree():
    draw = np.random.default_rng(3)
    x = draw.random((300, 12)) * (draw.random((300, 12)) < 0.3)
    y = (x[:, 4] > 0).astype(int)
    fit = next(iter(iter_group_sparse({"fires": TaskExamples(csr_array(x), y, 2)}, shares=(0.4,))))
    assert fit.used["fires"] == (4,)
    with pytest.raises(ShapeError, match="the same to all"):
        list(iter_group_sparse({"a": TaskExamples(x, y, 2), "b": TaskExamples(x[:, 1:], y, 2)}))


def test_a_single_input_with_a_large_mean_is_fitted_to_its_optimum():
    """Sparse inputs keep their mean, of which the step's length must know."""
    draw = np.random.default_rng(0)
    x = 5 + draw.normal(size=(200, 1))
    y = (x[:, 0] + draw.normal(size=200) > 5).astype(int)
    (fit,) = iter_group_sparse({"t": TaskExamples(csr_array(x), y, 2)}, shares=(0.01,))
    nats, best = (-probe[np.arange(200), y].mean() for probe in (
        fit.probes["t"].log_probabilities(x), LogisticRegression(C=1e4).fit(x, y).predict_log_proba(x)
    ))  # fmt: skip
    assert nats == pytest.approx(best, abs=1e-3)


def test_sparse_inputs_are_probed_as_the_same_inputs_written_out():
    """Their means, many times their spread, are neither taken from the zeros nor in the way of settling."""
    draw = np.random.default_rng(1)
    x = draw.random((200, 8)) * (draw.random((200, 8)) < 0.4) + np.array([0, 0, 0, 0, 9, 9, 0, 0])
    y = (x[:, 1] + x[:, 5] - 9 > 0.5).astype(int)
    sparse, dense = (
        list(iter_group_sparse({"t": TaskExamples(inputs, y, 2)}, shares=(0.3, 0.05))) for inputs in (csr_array(x), x)
    )
    for one, other in zip(sparse, dense, strict=True):
        assert one.used == other.used
        np.testing.assert_allclose(one.probes["t"].weight, other.probes["t"].weight, atol=2e-3)
        np.testing.assert_allclose(one.probes["t"].score(x), other.probes["t"].score(x), atol=2e-3)


@pytest.mark.parametrize("inputs", [np.ones((20, 3)), csr_array(np.ones((20, 3)))])
def test_inputs_that_do_not_vary_are_used_by_nothing(inputs):
    (fit,) = iter_group_sparse({"t": TaskExamples(inputs, np.arange(20) % 2, 2)}, shares=(0.1,))
    assert fit.used["t"] == ()


def test_a_fit_that_does_not_settle_is_told(monkeypatch):
    monkeypatch.setattr(group_sparse, "_MOST_STEPS", 3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    y = (x[:, 0] > 0).astype(int)
    with pytest.warns(ConvergenceWarning, match="probes of fires had not settled after 3 steps"):
        (fit,) = iter_group_sparse({"fires": TaskExamples(x, y, 2)}, shares=(0.1,))
    # What it has come to is given all the same.
    assert 0 in fit.used["fires"]
