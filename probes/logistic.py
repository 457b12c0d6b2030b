"""Logistic regression on activations or features, in the units of what it is given.

Axes: n examples, d inputs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.linear_model import LogisticRegression

PENALTY = 1.0
_MOST_STEPS = 5000
_TOLERANCE = 1e-3
# Newton's steps take few iterations, each with a matrix of inputs by inputs: for many examples of some width. On few
# examples its line search can fail.
_NEWTON_INPUTS = range(64, 1025)
_NEWTON_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class LogisticProbe:
    """A direction and where along it the answer turns to yes."""

    weight: Float[ndarray, " d"]
    bias: float

    def score(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        """Log-odds of yes."""
        return np.asarray(x @ self.weight + self.bias, dtype=np.float64)

    def predict(self, x: Float[ndarray, "n d"]) -> Bool[ndarray, " n"]:
        """Yes where that is likelier than not."""
        return np.asarray(self.score(x) > 0)

    def correct(self, x: Float[ndarray, "n d"], y: Bool[ndarray, " n"]) -> Float[ndarray, " n"]:
        """1 where the prediction is right."""
        return np.asarray(self.predict(x) == y, dtype=np.float64)


def fit_logistic(x: Float[ndarray, "n d"], y: Bool[ndarray, " n"]) -> LogisticProbe:
    """Logistic regression with an L2 penalty (C = 1) on standardised inputs; inputs that do not vary count for nothing.

    With one class alone, or no input at all, the answer is the commoner class.
    """
    if y.all() or not y.any() or x.shape[1] == 0:
        return LogisticProbe(np.zeros(x.shape[1]), 1.0 if y.mean() >= 0.5 else -1.0)
    x = np.asarray(x, dtype=np.float64)
    mean, sd = x.mean(0), x.std(0)
    scale = np.where(sd > 1e-12 * np.maximum(1.0, np.abs(mean)), 1 / np.maximum(sd, 1e-300), 0.0)
    many = x.shape[1] in _NEWTON_INPUTS and x.shape[0] >= _NEWTON_EXAMPLES * x.shape[1]
    solver = "newton-cholesky" if many else "lbfgs"
    model = LogisticRegression(C=PENALTY, max_iter=_MOST_STEPS, tol=_TOLERANCE, solver=solver)
    model.fit((x - mean) * scale, y)
    weight = model.coef_[0] * scale
    return LogisticProbe(weight, float(model.intercept_[0] - weight @ mean))
