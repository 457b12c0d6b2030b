"""Adam on a GPU that projects gradients, clips, updates and renormalises rows in one pass over the weights.

The twin is `SAE.project_gradients`, clipping by the global norm, torch's Adam, and division by row norms.
Axes: r rows, d columns of a weight matrix.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

FLAT = 1024
"""Columns of a vector, or of a matrix without unit rows, that one program takes."""


@triton.jit
def _squares_kernel(weight, grad, out, n, d, BLOCK: tl.constexpr, UNIT: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    at = row * d + columns
    inside = (columns < d) & (at < n)
    g = tl.load(grad + at, mask=inside, other=0.0)
    if UNIT:
        w = tl.load(weight + at, mask=inside, other=0.0)
        g = g - tl.sum(w * g) * w
    tl.store(out + row, tl.sum(g * g))


@triton.jit
def _adam_kernel(
    weight, grad, mean, square, facts, n, d, lr, beta1, beta2, eps, BLOCK: tl.constexpr, UNIT: tl.constexpr
):
    # facts: how much to scale gradients by; the two bias corrections; zero if nothing may move.
    if tl.load(facts + 3) > 0:
        row = tl.program_id(0).to(tl.int64)
        columns = tl.arange(0, BLOCK)
        at = row * d + columns
        inside = (columns < d) & (at < n)
        w = tl.load(weight + at, mask=inside, other=0.0)
        g = tl.load(grad + at, mask=inside, other=0.0)
        if UNIT:
            g = g - tl.sum(w * g) * w
        g = g * tl.load(facts)
        m = tl.load(mean + at, mask=inside, other=0.0)
        v = tl.load(square + at, mask=inside, other=0.0)
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g * g
        root = tl.sqrt_rn(v) / tl.sqrt_rn(tl.load(facts + 2)) + eps
        w = w - lr / tl.load(facts + 1) * (m / root)
        if UNIT:
            w = w / tl.sqrt_rn(tl.sum(w * w))
        tl.store(weight + at, w, mask=inside)
        tl.store(mean + at, m, mask=inside)
        tl.store(square + at, v, mask=inside)


class RowAdam(torch.optim.Optimizer):
    """Adam as torch's, whose state it shares key by key, with what an SAE does before and after in the same pass.

    Rows of the parameters in `unit` are kept at norm one: what would only change the norm is taken out of their
    gradients. Nothing moves if a gradient or `finite` is not: the returned norm says so, when it is read.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        unit: Iterable[torch.nn.Parameter] = (),
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        # All that torch's Adam keeps in its groups, so that either reads the other's checkpoints.
        defaults = dict(torch.optim.Adam([torch.zeros(1)], lr=lr, betas=betas, eps=eps, fused=True).defaults)
        super().__init__(groups, defaults)
        self.unit = {id(parameter) for parameter in unit}

    @torch.no_grad()
    def step_clipped(self, clip_norm: float, finite: Bool[Tensor, ""]) -> Float[Tensor, ""]:
        """Project, clip to `clip_norm` (0: do not), update, renormalise.

        Gives the norm before clipping, NaN if nothing moved.
        """
        held = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        squares = [_squares(p, unit=id(p) in self.unit) for _, p in held]
        norm = torch.cat(squares).sum().sqrt()
        scale = torch.ones_like(norm)
        if clip_norm > 0:
            scale = torch.where(norm > clip_norm, clip_norm / (norm + 1e-6), scale)
        may = finite & norm.isfinite()
        for group, parameter in held:
            self._move(group, parameter, scale, may)
        return torch.where(may, norm, torch.nan)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update without clipping."""
        del closure
        device = self.param_groups[0]["params"][0].device
        self.step_clipped(0.0, torch.ones((), dtype=torch.bool, device=device))

    def _move(self, group: dict[str, Any], parameter: torch.nn.Parameter, scale: Tensor, may: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += may
        beta1, beta2 = group["betas"]
        steps = state["step"].double()
        facts = torch.stack((scale.double(), 1 - beta1**steps, 1 - beta2**steps, may.double())).float()
        unit = id(parameter) in self.unit
        rows, d = _layout(parameter, unit=unit)
        _adam_kernel[(rows,)](
            parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"], facts, parameter.numel(), d,
            group["lr"], beta1, beta2, group["eps"], BLOCK=triton.next_power_of_2(d), UNIT=unit, num_warps=_warps(d),
        )  # fmt: skip


def _layout(parameter: Tensor, *, unit: bool) -> tuple[int, int]:
    """Rows and columns that programs take: the matrix's own where rows matter."""
    if unit:
        return parameter.shape[0], parameter.shape[1]
    return triton.cdiv(parameter.numel(), FLAT), FLAT


def _warps(d: int) -> int:
    return 4 if d <= 1024 else 8


def _squares(parameter: torch.nn.Parameter, *, unit: bool) -> Float[Tensor, " r"]:
    grad = parameter.grad
    if grad is None or not grad.is_contiguous() or not parameter.is_contiguous():
        raise ValueError("expected a contiguous parameter with a contiguous gradient")
    rows, d = _layout(parameter, unit=unit)
    out = torch.empty(rows, device=parameter.device)
    _squares_kernel[(rows,)](
        parameter, grad, out, parameter.numel(), d, BLOCK=triton.next_power_of_2(d), UNIT=unit, num_warps=_warps(d)
    )
    return out
