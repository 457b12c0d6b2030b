"""The toy of nested features: its settings, its arms, and how one of them is trained.

Axes: b tokens, t true features, f latents, d width of the activations.
Source: Bussmann et al. 2025 (arXiv 2503.17547), toy experiment.
"""

from dataclasses import replace
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor

from interp.config import Config
from interp.loop import Schedule, fit
from saes.architectures import create_sae
from saes.base import SAE
from saes.config import SAEConfig
from saes.initialise import initialise
from saes.matryoshka import draw_prefixes
from saes.ops.encode import Preactivations
from saes.ops.select import Selection, largest, select_above
from saes.synthetic import HOOK, FeatureTree, SyntheticActivations, toy_tree

Arm = Literal["l1", "batch_topk", "matryoshka", "frozen_decoder", "untrained"]
ARMS: tuple[Arm, ...] = get_args(Arm)
_SAMPLE_TOKENS = 4096
_ENERGY_RATE = 0.01


class ToyConfig(Config):
    """The toy of nested features: three parents with three children each, eight features on their own, 20 latents."""

    steps: int = Field(40_000, ge=1)
    """Steps of each run."""
    seeds: int = Field(5, ge=1)
    """Runs per arm; each draws its own directions, data and initial weights."""
    l0: float = Field(1.2338, gt=0, le=20)
    """Active latents per token while training: BatchTopK's k, and what the L1 weight is steered to."""
    eval_l0: tuple[float, ...] = (1.12, 0.85)
    """Active latents per token when scored: the true L0, and that of an SAE that absorbs every parent."""
    eval_tokens: int = Field(100_000, ge=100)
    """Tokens scored on; the threshold is set on as many others."""
    batch_size: int = Field(200, ge=1)
    """Tokens per step."""
    lr: float = Field(3e-2, gt=0)
    """Adam's learning rate."""
    beta1: float = Field(0.5, ge=0, lt=1)
    """Adam's first decay."""
    beta2: float = Field(0.9375, ge=0, lt=1)
    """Adam's second decay."""
    decay_share: float = Field(0.0, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls to zero."""
    n_prefixes: int = Field(10, ge=1, le=20)
    """Nested prefixes, drawn anew at every step."""
    pareto_exponent: float = Field(0.5, gt=0)
    """Exponent of the truncated Pareto distribution that prefix widths are drawn from."""
    resort_every: int = Field(1, ge=0)
    """Steps between two sortings of the Matryoshka's latents by their mean squared activation; 0: never."""
    l1_coefficient: float = Field(0.1, gt=0)
    """L1 weight at the start."""
    l0_rate: float = Field(1e-3, gt=0, le=1)
    """Largest relative change of the L1 weight per step."""
    workers: int = Field(2, ge=1)
    """Runs at a time, one thread each."""

    @model_validator(mode="after")
    def _scored_somewhere(self) -> "ToyConfig":
        if not self.eval_l0 or min(self.eval_l0) <= 0:
            raise ValueError(f"eval_l0: got {list(self.eval_l0)}; give one or several positive numbers")
        return self


@final
class AverageKSAE(SAE):
    """Matryoshka BatchTopK that keeps round(k·b) activations of a batch, for a k that need not be whole.

    With one prefix it is the plain BatchTopK. The inference threshold is for whoever scores it to set.
    """

    def __init__(self, config: SAEConfig, d_in: int, *, k: float, **where: Any) -> None:
        super().__init__(config, d_in, **where)
        self.k = k

    def select(self, pre: Preactivations) -> Selection:
        code = select_above(pre, self.threshold.new_zeros(())).code
        keep = largest(code.values[None], round(self.k * code.n_rows))[0]
        return Selection(replace(code, values=code.values * keep).active(), 0)

    def select_at_inference(self, pre: Preactivations) -> Selection:
        return select_above(pre, self.threshold)

    def prefix_widths(self) -> tuple[int, ...]:
        """Widths drawn for this step; the whole dictionary alone if only one prefix is wanted."""
        config = self.config
        generator = torch.Generator().manual_seed(config.prefix_seed * 1_000_003 + int(self.n_updates))
        return draw_prefixes(config.d_sae, config.nested_prefixes(), config.pareto_exponent, generator)


def train_arm(config: ToyConfig, arm: Arm, seed: int) -> tuple[SAE, FeatureTree]:
    """Train one arm on a tree of its own seed."""
    tree = toy_tree(seed)
    n_steps = 0 if arm == "untrained" else config.steps
    sae = _create(config, arm, tree, seed, token_budget=max(1, n_steps) * config.batch_size)
    sample = tree.activations(tree.sample(_SAMPLE_TOKENS, torch.Generator().manual_seed(seed)))
    initialise(sae, sample, seed=seed, normalise=False)
    sae.W_dec.requires_grad_(arm != "frozen_decoder")
    weights = [parameter for parameter in sae.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)
    batches = SyntheticActivations(tree, batch_size=config.batch_size, seed=seed)
    schedule = Schedule(lr=config.lr, decay_share=config.decay_share)
    energy = torch.zeros(sae.d_sae)
    for done in fit(sae, optimiser, batches, schedule=schedule, n_steps=n_steps, clip_norm=0.0):
        if arm == "matryoshka" and config.resort_every and done.report.code is not None:
            code = done.report.code
            squares = torch.zeros_like(energy).index_add_(0, code.features, code.values.detach().square())
            energy.lerp_(squares / code.n_rows, _ENERGY_RATE)
            if done.step % config.resort_every == 0:
                order = energy.argsort(descending=True, stable=True)
                reorder(sae, optimiser, order)
                energy = energy[order]
    return sae, tree


def _create(config: ToyConfig, arm: Arm, tree: FeatureTree, seed: int, *, token_budget: int) -> SAE:
    d_sae, d_in = tree.directions.shape
    where: dict[str, Any] = {"hooks_in": (HOOK,), "token_budget": token_budget}
    if arm == "l1":
        steered: dict[str, Any] = {
            "l0_target": config.l0,
            "l1_coefficient": config.l1_coefficient,
            "l0_rate": config.l0_rate,
        }
        # As published: no warm-up of the penalty, nothing done about dead latents.
        steered |= {"penalty_warmup_share": 0.0, "dead_features": "leave"}
        return create_sae(SAEConfig(architecture="standard", d_sae=d_sae, n_prefixes=1, **steered), d_in, **where)
    nested = SAEConfig(
        d_sae=d_sae,
        k=1,
        n_prefixes=config.n_prefixes if arm == "matryoshka" else 1,
        prefix_sampling="pareto",
        pareto_exponent=config.pareto_exponent,
        prefix_seed=seed,
    )
    return AverageKSAE(nested, d_in, k=config.l0, **where)


@torch.no_grad()
def reorder(sae: SAE, optimiser: torch.optim.Optimizer, order: Int[Tensor, " f"]) -> None:
    """Put latents in another order, with the optimiser's moments and the counters that belong to them."""
    for parameter in (sae.W_enc, sae.W_dec, sae.b_enc):
        slots = [slot for slot in optimiser.state[parameter].values() if slot.shape == parameter.shape]
        for tensor in (parameter, *slots):
            tensor.copy_(tensor[order])
    sae.tokens_since_fired.copy_(sae.tokens_since_fired[order])
