"""The finite-state machine that TokFSM models learn: its sequences, and what is best possible on them.

Axes: s states, e edges (10 a state), b rows, t position. A state is written as two digits; token 10 is BOS.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from interp.codebooks.batches import LanguageBatch

N_STATES, N_EDGES, BASE = 100, 10, 10
BOS = 10
MACHINE_SEED = 42


@dataclass(frozen=True, slots=True)
class Machine:
    """Where each state leads: to ten others, equally likely. Shapes: successors (s, e)."""

    successors: Int[ndarray, "s e"]

    @staticmethod
    def draw(seed: int = MACHINE_SEED) -> "Machine":
        """Each state's successors drawn in sequence without replacement."""
        generator = np.random.default_rng(seed)
        rows = [generator.choice(N_STATES, N_EDGES, replace=False) for _ in range(N_STATES)]
        return Machine(np.stack(rows))

    @property
    def transitions(self) -> Float[ndarray, "s s"]:
        """Probability of each next state."""
        matrix = np.zeros((N_STATES, N_STATES))
        np.put_along_axis(matrix, self.successors, 1 / N_EDGES, axis=1)
        return matrix

    @property
    def first_digit(self) -> Float[ndarray, "s digit"]:
        """Probability of the next state's first digit."""
        return np.asarray(self.transitions.reshape(N_STATES, BASE, BASE).sum(2))

    @property
    def n_pairs(self) -> int:
        """Pairs of a state and a first digit that can follow it."""
        return int((self.first_digit > 0).sum())

    def bayes(self, n_positions: int) -> tuple[float, float]:
        """Best loss and accuracy over rows of `n_positions` tokens, BOS first and only read.

        Units: nats per predicted token; share of tokens.
        """
        first, second = _best(self)
        share = np.full(N_STATES, 1 / N_STATES)
        # The first state is any: each of its digits is one of ten.
        nats, right = [np.log(BASE)] * 2, [1 / BASE] * 2
        while len(nats) < n_positions - 1:
            for loss, accuracy in (first, second):
                nats.append(float(share @ loss))
                right.append(float(share @ accuracy))
            share = share @ self.transitions
        n = n_positions - 1
        return float(np.mean(nats[:n])), float(np.mean(right[:n]))

    def rows(self, n_rows: int, n_positions: int, generator: torch.Generator) -> Int[Tensor, "b t"]:
        """Rows of tokens: BOS, then digits of a walk from a state drawn at random, cut to length."""
        n_steps = n_positions // 2
        table = torch.from_numpy(self.successors)
        state = torch.randint(N_STATES, (n_rows,), generator=generator)
        edges = torch.randint(N_EDGES, (n_rows, n_steps), generator=generator)
        walk = [state]
        for step in range(n_steps - 1):
            state = table[state, edges[:, step]]
            walk.append(state)
        states = torch.stack(walk, dim=1)
        digits = torch.stack([states // BASE, states % BASE], dim=2).flatten(1)
        return torch.cat([torch.full((n_rows, 1), BOS), digits], dim=1)[:, :n_positions]


def _best(machine: Machine) -> tuple[tuple[ndarray, ndarray], tuple[ndarray, ndarray]]:
    """Loss and accuracy of the best guess at either digit of the next state, by state."""
    first, joint = machine.first_digit, machine.transitions.reshape(N_STATES, BASE, BASE)
    entropy_first = -np.where(first > 0, first * np.log(np.where(first > 0, first, 1)), 0).sum(1)
    # All successors are equally likely: the whole costs log 10, whatever the first digit took off it.
    return (entropy_first, first.max(1)), (np.log(N_EDGES) - entropy_first, joint.max(2).sum(1))


def states_of(token_ids: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """The state that each token completes, as its second digit; -1 elsewhere."""
    states = torch.full_like(token_ids, -1)
    n = (token_ids.shape[1] - 1) // 2 * 2
    states[:, 2 : n + 1 : 2] = token_ids[:, 1:n:2] * BASE + token_ids[:, 2 : n + 1 : 2]
    return states


def longest_walk(n_positions: int) -> int:
    """Most whole states that a row may begin with, so that both digits of the next are predicted where models learnt.

    The last position of a row has nothing to predict in training: what a model makes of it there is undefined.
    """
    return max(1, (n_positions - 3) // 2)


class MachineBatches:
    """Fresh rows for ever; each batch has a generator of its own, so that the cursor is a number."""

    def __init__(
        self, machine: Machine, *, n_rows: int, n_positions: int, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self._machine, self._shape, self._seed, self._device = machine, (n_rows, n_positions), seed, device
        self._next = 0

    def __next__(self) -> LanguageBatch:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._next)
        self._next += 1
        ids = self._machine.rows(*self._shape, generator).to(self._device)
        targets = torch.full_like(ids, -100)
        targets[:, :-1] = ids[:, 1:]
        return LanguageBatch(ids, targets)

    def cursor(self) -> dict[str, int]:
        return {"batch": self._next}

    def seek(self, cursor: Mapping[str, int]) -> None:
        self._next = cursor["batch"]
