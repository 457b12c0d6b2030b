"""The study on known features: its settings, its arms, and how one of them is made.

Axes: t true features, f latents, d width of the activations.
"""

from typing import Literal, get_args

import torch
from pydantic import Field, model_validator

from interp.config import Config
from interp.loop import Schedule, fit
from saes.architectures import create_sae
from saes.base import SAE
from saes.config import SAEConfig
from saes.ground_truth import scored_features
from saes.initialise import initialise
from saes.optimiser import make_optimiser
from saes.synthetic import HOOK
from saes.synthetic_batches import SyntheticBatches
from saes.synthetic_config import SyntheticConfig
from saes.synthetic_world import World

Arm = Literal["matryoshka", "batch_topk", "l1", "oracle", "frozen_decoder", "untrained"]
ARMS: tuple[Arm, ...] = get_args(Arm)
_SAMPLE_TOKENS = 8192


class SyntheticStudyConfig(Config):
    """Which SAEs on which known features, for how long, and how they are scored.

    The features are a small form of the published ones (power law 0.5, trees of branching 4 and depth 3 with exclusive
    children): ten trees for the eight that the scale would give, and a parent that has a child on nine of ten of its
    tokens, so that hierarchy weighs on a dictionary that holds a quarter of the features. Length of training matters:
    after 1,500 steps the F1 of Matryoshka and BatchTopK differ by no more than seeds do; after 5,000 by more.
    """

    data: SyntheticConfig = SyntheticConfig()
    """The known features; each seed of the study draws its own, from data.seed on."""
    d_sae: int = Field(256, ge=1)
    """Latents."""
    k: int = Field(8, ge=1)
    """Active latents per token while training; what the L1 weight is steered to."""
    eval_l0: float = Field(7.5, gt=0)
    """Active latents per token when scored, the same for all arms; a threshold can only take latents away."""
    steps: int = Field(5000, ge=1)
    """Steps of each run."""
    seeds: int = Field(10, ge=1)
    """Runs per arm; each draws its own features, tokens and initial weights."""
    batch_size: int = Field(256, ge=1)
    """Tokens per step."""
    lr: float = Field(3e-3, gt=0)
    """Adam's learning rate."""
    n_prefixes: int = Field(5, ge=1)
    """Nested prefixes of the Matryoshka SAE, each twice as wide as the one before."""
    eval_tokens: int = Field(20_000, ge=100)
    """Tokens scored on; the threshold is set on others."""
    workers: int = Field(2, ge=1)
    """Runs at a time, one thread each."""

    @model_validator(mode="after")
    def _fits_together(self) -> "SyntheticStudyConfig":
        if self.k > self.d_sae:
            raise ValueError(f"k: got {self.k} active of d_sae {self.d_sae} latents; give at most d_sae")
        return self

    def world_config(self, seed: int) -> SyntheticConfig:
        """The known features of one seed of the study."""
        return self.data.model_copy(update={"seed": self.data.seed + seed})


def make_arm(config: SyntheticStudyConfig, world: World, arm: Arm, seed: int) -> SAE:
    """An arm's SAE, trained if the arm is."""
    sae = create_sae(_sae_config(config, arm), config.data.width, hooks_in=(HOOK,), token_budget=_budget(config))
    batches = SyntheticBatches(world, batch_size=config.batch_size, seed=seed)
    sample = world.draw(_SAMPLE_TOKENS, torch.Generator().manual_seed(seed)).x
    initialise(sae, sample, seed=seed)
    if arm == "oracle":
        _give_truth(sae, world)
    if arm in ("oracle", "untrained"):
        return sae
    sae.W_dec.requires_grad_(arm != "frozen_decoder")
    schedule = Schedule(lr=config.lr)
    for _ in fit(sae, make_optimiser(sae, config.lr), batches, schedule=schedule, n_steps=config.steps):
        pass
    return sae


def _budget(config: SyntheticStudyConfig) -> int:
    return config.steps * config.batch_size


def _sae_config(config: SyntheticStudyConfig, arm: Arm) -> SAEConfig:
    if arm == "l1":
        return SAEConfig(architecture="standard", d_sae=config.d_sae, k=config.k)
    if arm == "matryoshka":
        return SAEConfig(architecture=arm, d_sae=config.d_sae, k=config.k, n_prefixes=config.n_prefixes)
    return SAEConfig(architecture="batch_topk", d_sae=config.d_sae, k=config.k)


@torch.no_grad()
def _give_truth(sae: SAE, world: World) -> None:
    """The true directions of most energy as decoder and encoder; everything else only by its mean, in b_dec."""
    chosen = scored_features(world, sae.d_sae)
    mean = world.density() * world.strength
    mean[chosen] = 0
    for weight in (sae.W_dec, sae.W_enc):
        weight[: chosen.shape[0]] = world.directions[chosen]
    sae.b_dec.copy_((world.offset + mean @ world.directions) * sae.input_scale)
    # More latents than features: what is left over stays silent.
    sae.b_enc[chosen.shape[0] :] = -torch.inf
