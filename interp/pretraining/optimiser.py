"""Muon for weight matrices, Adam for everything else, in one optimiser."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def orthogonalise(x: Float[Tensor, "n r c"], *, steps: int = 5) -> Float[Tensor, "n r c"]:
    """Push all singular values of each matrix towards 1 (between about 0.7 and 1.2), its singular vectors unchanged.

    Source: Jordan et al. 2024, "Muon": quintic Newton-Schulz iteration with their coefficients.
    """
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class MuonAdam(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for `matrices`, Adam for `others`; weight decay on the matrices only.

    An update of a matrix has the root mean square of 0.2 x lr whatever its shape.
    Source: Jordan et al. 2024; the scale 0.2 sqrt(max(rows, columns)) is Liu et al. 2025, "Muon is scalable", eq. 4.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        adam_lr_scale: float,
        weight_decay: float,
    ) -> None:
        groups = [
            {"params": list(matrices), "kind": "muon", "lr_scale": 1.0},
            {"params": list(others), "kind": "adam", "lr_scale": adam_lr_scale},
        ]
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95, "betas": (0.9, 0.98), "eps": 1e-8}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        del closure
        for group in self.param_groups:
            active = [p for p in group["params"] if p.grad is not None]
            if group["kind"] == "muon":
                for shape in dict.fromkeys(p.shape for p in active):
                    self._muon([p for p in active if p.shape == shape], group)
            else:
                for p in active:
                    self._adam(p, group)

    def _muon(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        beta, directions = 1 - group["momentum"], []
        for p in matrices:
            assert p.grad is not None
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(p.grad, beta)
            directions.append(momentum.lerp(p.grad, beta))
        scale = 0.2 * math.sqrt(max(matrices[0].shape))
        for p, direction in zip(matrices, orthogonalise(torch.stack(directions)), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"] * scale)

    def _adam(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        state["step"] += 1
        n = float(state["step"])
        state["mean"].lerp_(p.grad, 1 - beta1)
        state["square"].lerp_(p.grad.square(), 1 - beta2)
        spread = (state["square"] / (1 - beta2**n)).sqrt_().add_(group["eps"])
        p.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - beta1**n))
