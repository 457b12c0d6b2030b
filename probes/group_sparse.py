"""Many tasks at once from few inputs: group-lasso probes, one group for each input.

That maximally sparse predictors of many tasks find disentangled inputs is the paper's claim; the number of inputs that
a task needs here, at the accuracy that it reaches, is what to read. The paper's outer problem, which learns the
representation itself, is not solved: the inputs are what they are.

Source: Lachapelle et al. 2023 (Synergies between disentanglement and sparsity, arXiv 2211.14666), inner problem.

Axes: n examples, d inputs, c classes.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, svds
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

from interp.errors import ShapeError
from probes.linear import LinearProbe, Standardised
from probes.probe_activations import Inputs

SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
"""Penalties as shares of the smallest one that leaves no input at all."""
_MOST_STEPS, _TOLERANCE = 4000, 1e-4


@dataclass(frozen=True, slots=True)
class TaskExamples:
    """Training examples of one task. Shapes: x (n, d), y (n,)."""

    x: Inputs
    y: Int[ndarray, " n"]
    n_classes: int


@dataclass(frozen=True, slots=True)
class GroupSparseFit:
    """Probes of all tasks at one penalty, and which inputs each uses."""

    share: float
    probes: Mapping[str, LinearProbe]
    used: Mapping[str, tuple[int, ...]]


def iter_group_sparse(
    tasks: Mapping[str, TaskExamples], *, shares: Sequence[float] = SHARES, shared: bool = False
) -> Iterator[GroupSparseFit]:
    """Minimise Σ_t mean loss + λ Σ_j ‖weights of input j‖, from the strongest penalty to the weakest.

    A group is an input's weights for all classes of one task, as in the paper; with `shared` those for all tasks, so
    that all use the same inputs. Inputs are standardised; biases are free. Warns where a fit does not settle.

    Raises: ShapeError if the tasks have inputs of different widths.
    """
    if len({task.x.shape[1] for task in tasks.values()}) != 1:
        raise ShapeError(
            f"got inputs of {sorted({t.x.shape[1] for t in tasks.values()})} columns; give the same to all"
        )
    problems = {name: _Problem.of(task) for name, task in tasks.items()}
    joined = [tuple(problems)] if shared else [(name,) for name in problems]
    weights = {name: problem.start() for name, problem in problems.items()}
    limits = {names: _least_empty({name: problems[name] for name in names}) for names in joined}
    for share in sorted(shares, reverse=True):
        for names in joined:
            found = _solve({name: problems[name] for name in names}, weights, share * limits[names])
            weights |= found
        used = {name: tuple(np.flatnonzero(np.abs(w[:, :-1]).sum(0)).tolist()) for name, w in weights.items()}
        yield GroupSparseFit(share, {name: problems[name].probe(weights[name]) for name in weights}, used)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Inputs are z less `shift`, their means, which sparse ones keep: with them as they are, steps would be tiny.

    Shapes: z (n, d) standardised inputs, shift (d,), target (n, c) one-hot; weights are (c, d + 1), the last column
    biases.
    """

    scaling: Standardised
    z: Any
    shift: Float[ndarray, " d"]
    target: Float[ndarray, "n c"]
    curvature: float

    @staticmethod
    def of(task: TaskExamples) -> "_Problem":
        scaling = Standardised.of(task.x)
        z = scaling.apply(task.x)
        shift = np.asarray(z.mean(0)).ravel()
        # The softmax's own curvature is at most a half; inputs at mean zero and the column of ones are orthogonal.
        curvature = 0.5 * max(_largest_singular_value(z, shift) ** 2 / task.y.size, 1.0)
        return _Problem(scaling, z, shift, np.eye(task.n_classes)[task.y], curvature)

    def start(self) -> Float[ndarray, "c e"]:
        weight = np.zeros((self.target.shape[1], self.z.shape[1] + 1))
        weight[:, -1] = np.log(np.maximum(self.target.mean(0), 1e-12))
        return weight

    def gradient(self, weight: Float[ndarray, "c e"]) -> Float[ndarray, "c e"]:
        biases = weight[:, -1] - weight[:, :-1] @ self.shift
        error = softmax(np.asarray(self.z @ weight[:, :-1].T) + biases, axis=1) - self.target
        of_biases = error.sum(0)[:, None]
        of_inputs = np.asarray(self.z.T @ error).T - of_biases * self.shift
        gradient = np.concatenate([of_inputs, of_biases], axis=1)
        return np.asarray(gradient / self.target.shape[0])

    def probe(self, weight: Float[ndarray, "c e"]) -> LinearProbe:
        return self.scaling.undo(weight[:, :-1], weight[:, -1] - weight[:, :-1] @ self.shift)


def _largest_singular_value(z: Inputs, shift: Float[ndarray, " d"]) -> float:
    """Of z less `shift` in every row, which is never written out."""
    if abs(z).sum() == 0:
        return 0.0
    if min(z.shape) == 1:
        return float(np.linalg.norm((z.toarray() if issparse(z) else z) - shift))

    def forward(v: ndarray) -> ndarray:
        return np.asarray(z @ v.ravel() - shift @ v.ravel())

    def back(u: ndarray) -> ndarray:
        return np.asarray(z.T @ u.ravel() - shift * u.sum())

    centred = LinearOperator(z.shape, dtype=np.float64, matvec=forward, rmatvec=back)
    return float(svds(centred, k=1, return_singular_vectors=False, random_state=0)[0])


def _least_empty(problems: Mapping[str, _Problem]) -> float:
    """The smallest penalty at which no input is used: the largest gradient of a group where all weights are zero."""
    squares = sum(np.square(problem.gradient(problem.start())[:, :-1]).sum(0) for problem in problems.values())
    # A hair more, so that none is used by rounding.
    return float(np.sqrt(np.max(squares))) * (1 + 1e-9)


def _solve(
    problems: Mapping[str, _Problem], start: Mapping[str, Float[ndarray, "c e"]], penalty: float
) -> dict[str, Float[ndarray, "c e"]]:
    """Accelerated proximal gradient with restarts. Source: Beck & Teboulle 2009; O'Donoghue & Candès 2015."""
    step = 1 / max(problem.curvature for problem in problems.values())
    now = {name: start[name] for name in problems}
    ahead, momentum = dict(now), 1.0
    for _ in range(_MOST_STEPS):
        moved = {name: ahead[name] - step * problem.gradient(ahead[name]) for name, problem in problems.items()}
        new = _shrunk(moved, step * penalty)
        change = {name: new[name] - now[name] for name in new}
        uphill = sum(float(((ahead[name] - new[name]) * change[name]).sum()) for name in new) > 0
        following = 1.0 if uphill else (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = {name: new[name] + (0.0 if uphill else (momentum - 1) / following) * change[name] for name in new}
        now, momentum = new, following
        if max(float(np.abs(each).max()) for each in change.values()) < _TOLERANCE * step:
            return now
    told = f"group-sparse probes of {', '.join(now)} had not settled after {_MOST_STEPS:,} steps; read them as bounds"
    warnings.warn(told, ConvergenceWarning, stacklevel=2)
    return now


def _shrunk(weights: Mapping[str, Float[ndarray, "c e"]], by: float) -> dict[str, Float[ndarray, "c e"]]:
    """Groups drawn towards zero by their norm over all weights given; biases stay."""
    norm = np.sqrt(sum(np.square(weight[:, :-1]).sum(0) for weight in weights.values()))
    factor = np.append(np.maximum(1 - by / np.maximum(norm, 1e-300), 0.0), 1.0)
    return {name: weight * factor for name, weight in weights.items()}
