"""SAEs in training on invented activations: every architecture and wiring, with biases away from zero."""

import torch
from torch import Tensor

from interp.code import ActivationBatch
from interp.loop import StepReport, one_step
from saes import SAE, SAEConfig, create_sae, initialise
from saes.optimiser import make_optimiser

D_IN, D_OUT = 16, 12
HOOKS = {
    "plain": {"hooks_in": ("h",)},
    "transcoder": {"hooks_in": ("h",), "hooks_out": ("y",), "d_out": D_OUT},
    "skip": {"hooks_in": ("h",), "hooks_out": ("y",), "d_out": D_OUT},
    "crosscoder": {"hooks_in": ("h", "y"), "hook_widths": (D_IN, D_OUT)},
}


def planted(n: int, d: int = D_IN, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sparse positive sums of 2 d random directions, two of them active on average, about a mean that is not zero."""
    world, draw = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(2 * d, d, generator=world, dtype=dtype), dim=1)
    strength = torch.rand(n, 2 * d, generator=draw, dtype=dtype) + 0.5
    active = torch.rand(n, 2 * d, generator=draw, dtype=dtype) < 1 / d
    return 3 * (strength * active) @ directions + 0.05 * torch.randn(n, d, generator=draw, dtype=dtype) + 0.4


def output_of(x: Tensor) -> Tensor:
    """Another hook's activations: of the same tokens, on another scale and not linear in the first."""
    mix = torch.randn(x.shape[1], D_OUT, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    return 0.2 * torch.relu(x @ mix) + 0.1 * (x @ mix) - 0.7


def batch_of(x: Tensor) -> ActivationBatch:
    """Tokens at hook h, and what stands at y for them."""
    zeros = torch.zeros(x.shape[0], dtype=torch.int64)
    return ActivationBatch({"h": x, "y": output_of(x)}, zeros, zeros, zeros)


def new_sae(
    architecture: str = "topk",
    wiring: str = "plain",
    *,
    dtype: torch.dtype = torch.float32,
    token_budget: int | None = 10_000,
    seed: int = 1,
    n_sample: int = 2000,
    **config: object,
) -> SAE:
    """Initialised on planted activations, as a run begins; other `seed`, other weights and sample."""
    settings = {"architecture": architecture, "d_sae": 48, "k": 4, "skip": wiring == "skip", **config}
    d_in = D_IN + D_OUT if wiring == "crosscoder" else D_IN
    sae = create_sae(SAEConfig(**settings), d_in, dtype=dtype, token_budget=token_budget, **HOOKS[wiring])
    sample = batch_of(planted(n_sample, seed=seed, dtype=dtype))
    output = None if wiring in ("plain", "crosscoder") else sample.stacked(("y",))
    initialise(sae, sample.stacked(sae.hooks_in), seed=seed, output=output)
    return sae


def disturb(sae: SAE, *, seed: int = 0) -> SAE:
    """Every parameter moved at random, the constraints kept: nothing is zero that is only so at the start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise, alpha=0.05 if parameter.ndim == 2 else 0.1)
            if name == "threshold":
                parameter.clamp_(min=0.05)
        norm = sae.W_dec.norm(dim=1, keepdim=True)
        sae.W_dec.div_(norm if sae.config.decoder_norm == "unit" else norm / (0.5 + torch.rand(norm.shape).to(norm)))
    return sae


def optimiser_of(sae: SAE, kind: str = "adam") -> torch.optim.Optimizer:
    return make_optimiser(sae, 3e-3, kind)


def step(sae: SAE, optimiser: torch.optim.Optimizer, batch: ActivationBatch, *, lr: float = 3e-3) -> StepReport:
    """One step of training as the loop does it."""
    return one_step(sae, optimiser, batch, lr=lr, clip_norm=1.0, step=1)[0]
