"""Adam on a GPU that projects gradients, clips, updates and renormalises rows in one pass over the weights.

The twin is `SAE.project_gradients`, clipping by the global norm, torch's Adam, and division by row norms.
Axes: r rows, d columns of a weight matrix.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from interp.distributed import ALONE, Ranks
from saes.ops.launch import Kernel

FLAT = 1024
"""Columns of a vector, or of a matrix without unit rows, that one program takes."""


@Kernel
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


@Kernel
def _facts_kernel(squares, sound, steps, facts, clip_norm, n, beta1, beta2, BLOCK: tl.constexpr):
    # facts: the norm; by how much to scale gradients; one if weights may move. Then both bias corrections of each
    # parameter, whose steps are counted here.
    norm = tl.sqrt_rn(tl.load(squares))
    may = (norm < float("inf")) & (tl.load(sound) != 0)
    scale = tl.where((clip_norm > 0) & (norm > clip_norm), clip_norm / (norm + 1e-6), 1.0)
    lanes = tl.arange(0, BLOCK)
    there = lanes < n
    done = tl.load(steps + lanes, mask=there, other=0.0) + may.to(tl.float32)
    tl.store(steps + lanes, done, mask=there)
    tl.store(facts, tl.where(may, norm, float("nan")))
    tl.store(facts + 1, scale)
    tl.store(facts + 2, may.to(tl.float32))
    # In float32 1 - beta2 ** 1 would be wrong in the fifth digit.
    exact = done.to(tl.float64)
    log1 = tl.log2(beta1 + tl.zeros([BLOCK], dtype=tl.float64))
    log2 = tl.log2(beta2 + tl.zeros([BLOCK], dtype=tl.float64))
    tl.store(facts + 3 + 2 * lanes, (1 - tl.exp2(exact * log1)).to(tl.float32), mask=there)
    tl.store(facts + 4 + 2 * lanes, (1 - tl.exp2(exact * log2)).to(tl.float32), mask=there)


@Kernel
def _adam_kernel(
    weight, grad, mean, square, facts, which, n, d, lr, beta1, beta2, eps, BLOCK: tl.constexpr, UNIT: tl.constexpr
):
    if tl.load(facts + 2) > 0:
        row = tl.program_id(0).to(tl.int64)
        columns = tl.arange(0, BLOCK)
        at = row * d + columns
        inside = (columns < d) & (at < n)
        w = tl.load(weight + at, mask=inside, other=0.0)
        g = tl.load(grad + at, mask=inside, other=0.0)
        if UNIT:
            g = g - tl.sum(w * g) * w
        g = g * tl.load(facts + 1)
        m = tl.load(mean + at, mask=inside, other=0.0)
        v = tl.load(square + at, mask=inside, other=0.0)
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g * g
        root = tl.sqrt_rn(v) / tl.sqrt_rn(tl.load(facts + 4 + 2 * which)) + eps
        w = w - lr / tl.load(facts + 3 + 2 * which) * (m / root)
        if UNIT:
            w = w / tl.sqrt_rn(tl.sum(w * w))
        tl.store(weight + at, w, mask=inside)
        tl.store(mean + at, m, mask=inside)
        tl.store(square + at, v, mask=inside)


class RowAdam(torch.optim.Optimizer):
    """Adam as torch's, whose state it shares key by key, with what an SAE does before and after in the same pass.

    Rows of the parameters in `unit` are kept at norm one: what would only change the norm is taken out of their
    gradients. Nothing moves if a gradient is not finite or a step not `sound`: the returned norm says so, when it is
    read. Where several `ranks` have rows of the parameters in `parts`, and all have the others, the norm that clips is
    that of the whole.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        unit: Iterable[torch.nn.Parameter] = (),
        parts: Iterable[torch.nn.Parameter] = (),
        ranks: Ranks = ALONE,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        # All that torch's Adam keeps in its groups, so that either reads the other's checkpoints.
        defaults = dict(torch.optim.Adam([torch.zeros(1)], lr=lr, betas=betas, eps=eps, fused=True).defaults)
        super().__init__(groups, defaults)
        self.unit = {id(parameter) for parameter in unit}
        self.parts, self.ranks = {id(parameter) for parameter in parts}, ranks
        self.betas, self.eps = betas, eps
        self._steps = torch.zeros(0)

    @torch.no_grad()
    def step_clipped(self, clip_norm: float, sound: Bool[Tensor, ""]) -> Float[Tensor, ""]:
        """Project, clip to `clip_norm` (0: do not), update, renormalise.

        Gives the norm before clipping, NaN if nothing moved. All ranks ask for it.
        """
        held = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._begin([p for _, p in held])
        layouts = [_layout(p, unit=id(p) in self.unit) for _, p in held]
        device, n = sound.device, len(held)
        squares = torch.empty(sum(rows for rows, _ in layouts), device=device)
        done = 0
        for (_, parameter), (rows, d) in zip(held, layouts, strict=True):
            _write_squares(parameter, rows, d, squares[done:], unit=id(parameter) in self.unit)
            done += rows
        facts = torch.empty(3 + 2 * n, device=device)
        _facts_kernel[(1,)](
            self._total(squares, [p for _, p in held], layouts), sound, self._steps, facts, clip_norm, n, *self.betas,
            BLOCK=triton.next_power_of_2(n), num_warps=1,
        )  # fmt: skip
        for which, ((group, parameter), (rows, d)) in enumerate(zip(held, layouts, strict=True)):
            state = self.state[parameter]
            _adam_kernel[(rows,)](
                parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"], facts, which, parameter.numel(), d,
                group["lr"], *self.betas, self.eps, BLOCK=triton.next_power_of_2(d), UNIT=id(parameter) in self.unit,
                num_warps=_warps(d),
            )  # fmt: skip
        return facts[0]

    def _total(
        self, squares: Float[Tensor, " _"], held: Sequence[Tensor], layouts: Sequence[tuple[int, int]]
    ) -> Float[Tensor, ""]:
        """Squared norm of the gradients of all ranks."""
        if self.ranks.n == 1:
            return squares.sum()
        of_each = [rows.sum() for rows in squares.split([n for n, _ in layouts])]
        mine, shared = squares.new_zeros(()), squares.new_zeros(())
        for parameter, square in zip(held, of_each, strict=True):
            if id(parameter) in self.parts:
                mine = mine + square
            else:
                shared = shared + square
        return self.ranks.add(mine) + shared

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update without clipping."""
        del closure
        device = self.param_groups[0]["params"][0].device
        self.step_clipped(0.0, torch.ones((), dtype=torch.bool, device=device))

    def _begin(self, moving: list[torch.nn.Parameter]) -> None:
        """All step counts in one vector, of which the state holds views: one kernel counts them.

        After a checkpoint was loaded the state holds tensors of its own again.
        """
        if len(moving) == self._steps.shape[0] and all(
            "step" in self.state[p] and self.state[p]["step"].data_ptr() == self._steps[index].data_ptr()
            for index, p in enumerate(moving)
        ):
            return
        counts = [self.state[p].get("step", torch.zeros(())) for p in moving]
        self._steps = torch.stack([torch.as_tensor(count).float().to(moving[0].device) for count in counts])
        for index, parameter in enumerate(moving):
            state = self.state[parameter]
            state["step"] = self._steps[index]
            state.setdefault("exp_avg", torch.zeros_like(parameter))
            state.setdefault("exp_avg_sq", torch.zeros_like(parameter))


def _layout(parameter: Tensor, *, unit: bool) -> tuple[int, int]:
    """Rows and columns that programs take: the matrix's own where rows matter."""
    if unit:
        return parameter.shape[0], parameter.shape[1]
    return triton.cdiv(parameter.numel(), FLAT), FLAT


def _warps(d: int) -> int:
    return 4 if d <= 1024 else 8


def _write_squares(parameter: torch.nn.Parameter, rows: int, d: int, out: Float[Tensor, " _"], *, unit: bool) -> None:
    grad = parameter.grad
    if grad is None or not grad.is_contiguous() or not parameter.is_contiguous():
        raise ValueError("expected a contiguous parameter with a contiguous gradient")
    _squares_kernel[(rows,)](
        parameter, grad, out, parameter.numel(), d, BLOCK=triton.next_power_of_2(d), UNIT=unit, num_warps=_warps(d)
    )
