"""A small network as reference: what is there to be read, whether or not linearly.

Axes: n examples, d inputs, c classes, h hidden units.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import issparse
from torch import Tensor, nn

from probes.linear import Standardised
from probes.probe_activations import Inputs
from probes.probe_tasks import Inner

HIDDEN = 128
_MOST_EPOCHS, _PATIENCE, _BATCH = 200, 6, 128


@dataclass(frozen=True, slots=True)
class NonlinearProbe:
    """One hidden layer on standardised inputs."""

    scaling: Standardised
    network: nn.Module
    n_epochs: int

    @torch.no_grad()
    def score(self, x: Inputs) -> Float[ndarray, "n c"]:
        """Unnormalised log-probabilities."""
        return np.asarray(self.network(_tensor(self.scaling, x)).double().numpy())

    def predict(self, x: Inputs) -> Int[ndarray, " n"]:
        """The likeliest class."""
        return np.asarray(self.score(x).argmax(1))

    def right(self, x: Inputs, y: Int[ndarray, " n"]) -> Float[ndarray, " n"]:
        """1 where the answer is right."""
        return np.asarray(self.predict(x) == y, dtype=np.float64)


def fit_nonlinear(
    x: Inputs, y: Int[ndarray, " n"], inner: Inner, *, n_classes: int, hidden: int = HIDDEN, seed: int = 0
) -> NonlinearProbe:
    """One hidden layer of GELUs with dropout, stopped where the loss on documents left out for it is lowest.

    It is not fitted again on everything: when to stop is known for these examples alone.
    """
    scaling = Standardised.of(x[inner.fit])
    inputs, answers = _tensor(scaling, x), torch.as_tensor(y)
    fit, validate = (torch.as_tensor(np.flatnonzero(side)) for side in (inner.fit, inner.validate))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(inputs.shape[1], hidden), nn.GELU(), nn.Dropout(0.2), nn.Linear(hidden, n_classes)
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        best, best_state, best_epoch = float("inf"), copy.deepcopy(network.state_dict()), 0
        for epoch in range(1, _MOST_EPOCHS + 1):
            _run_epoch(network, optimiser, inputs[fit], answers[fit])
            loss = _loss(network, inputs[validate], answers[validate])
            if loss < best:
                best, best_state, best_epoch = loss, copy.deepcopy(network.state_dict()), epoch
            elif epoch - best_epoch >= _PATIENCE:
                break
    network.load_state_dict(best_state)
    return NonlinearProbe(scaling, network.eval().requires_grad_(False), best_epoch)


def _run_epoch(
    network: nn.Module, optimiser: torch.optim.Optimizer, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]
) -> None:
    network.train()
    for rows in torch.randperm(y.shape[0]).split(_BATCH):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimiser.step()


@torch.no_grad()
def _loss(network: nn.Module, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> float:
    network.eval()
    return float(nn.functional.cross_entropy(network(x), y))


def _tensor(scaling: Standardised, x: Inputs) -> Float[Tensor, "n d"]:
    z = scaling.apply(x)
    return torch.as_tensor(z.toarray() if issparse(z) else z, dtype=torch.float32)
