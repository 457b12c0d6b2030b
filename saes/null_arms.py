"""What an SAE must beat: arms that keep everything but the part that was learned.

A trained arm is a run of its own (`trained_arms`); the others are made from the SAE and scored as it is.

Axes: n sampled tokens, d width of the activations, f features.
Source: Heap et al. 2025 (arXiv 2501.17547): the usual scores barely tell some of these from trained SAEs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.datasets import TokenBatch
from interp.errors import ConfigError
from saes.base import SAE
from saes.config import SAEConfig
from saes.evaluation import Evaluation
from saes.jumprelu import JumpReLUSAE
from saes.token_sample import Cursor, TokenSource
from saes.training import TrainConfig

SORTED_ENTRIES = 1 << 25


def trained_arms(config: TrainConfig, *, model_seed: int = 0) -> dict[str, TrainConfig]:
    """Runs to train beside `config`: its decoder frozen as drawn, and its model with shuffled weights.

    Everything else is the same, so that their scores can stand beside its own; but they begin with nothing learned.
    """
    folder = config.out / "null_arms"
    frozen = {"freeze_decoder": True, "warm_start": None, "out": folder / "frozen_decoder"}
    random = {"randomise_model": model_seed, "warm_start": None, "out": folder / "random_model"}
    return {"frozen_decoder": config.model_copy(update=frozen), "random_model": config.model_copy(update=random)}


def untrained_arms(sae: SAE, sample: Float[Tensor, "n d"], *, seed: int) -> dict[str, SAE]:
    """The arms that need no training, by name."""
    return {
        "permuted_decoder": permute_decoder(sae, seed=seed),
        "matched_random": matched_random_sae(sae, sample, seed=seed),
    }


def with_null_arms(evaluation: Evaluation, arms: Mapping[str, Evaluation]) -> Evaluation:
    """The evaluation with the scores of null arms beside its own."""
    return replace(evaluation, null_arms={name: arm.as_arm() for name, arm in arms.items()})


@torch.no_grad()
def permute_decoder(sae: SAE, *, seed: int) -> SAE:
    """The same codes, each feature given another one's decoder row (no row stays where it was)."""
    other = sae.folded()
    order = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(seed)).to(other.W_dec.device)
    other.W_dec[order] = other.W_dec[order.roll(1)]
    return other


@torch.no_grad()
def matched_random_sae(sae: SAE, sample: Float[Tensor, "n d"], *, seed: int) -> JumpReLUSAE:
    """Random encoder and decoder directions that fire as often and as strongly as the features they stand for.

    On `sample` every feature has the same number of firings, the same mean activation over them and the same decoder
    norm as in `sae`.

    Raises: ConfigError for a transcoder or a crosscoder.
    """
    if sae.hooks_in != sae.hooks_out or len(sae.hooks_in) > 1:
        hooks = ", ".join(dict.fromkeys((*sae.hooks_in, *sae.hooks_out)))
        raise ConfigError(f"got a dictionary of {hooks}; expected an SAE of one hook, for random features to match")
    folded = sae.folded()
    code = folded.encode(sample)
    fired = code.values > 0
    firings = torch.bincount(code.features[fired], minlength=sae.d_sae)
    strength = torch.zeros_like(folded.b_enc).index_add_(0, code.features[fired], code.values[fired])
    config = SAEConfig(architecture="standard", d_sae=sae.d_sae, n_prefixes=1)
    where: dict[str, Any] = {"device": sae.W_enc.device, "dtype": sae.W_enc.dtype}
    random = JumpReLUSAE(config, sae.d_in, hooks_in=sae.hooks_in, hooks_out=sae.hooks_out, **where)
    generator = torch.Generator().manual_seed(seed)
    random.b_dec.copy_(folded.b_dec)
    random.W_dec.copy_(_directions(sae, generator) * torch.linalg.vector_norm(folded.W_dec, dim=1, keepdim=True))
    encoder = _directions(sae, generator)
    centred = sample.to(encoder) - folded.b_dec
    for rows in torch.arange(sae.d_sae, device=encoder.device).split(max(1, SORTED_ENTRIES // sample.shape[0])):
        gain, shift = _match(centred @ encoder[rows].T, firings[rows], strength[rows])
        random.W_enc[rows] = encoder[rows] * gain[:, None]
        random.b_enc[rows] = -shift * gain
    return random.eval()


def _directions(sae: SAE, generator: torch.Generator) -> Float[Tensor, "f d"]:
    rows: Tensor = torch.randn(sae.d_sae, sae.d_in, generator=generator).to(sae.W_enc)
    return torch.nn.functional.normalize(rows, dim=1)


def _match(
    projections: Float[Tensor, "n f"], firings: Int[Tensor, " f"], strength: Float[Tensor, " f"]
) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
    """Gain g and shift s such that relu(g·(p - s)) has the wanted number and sum of positive values in each column."""
    descending = projections.sort(dim=0, descending=True).values
    n = descending.shape[0]
    # Halfway between the last value that shall fire and the first that shall not: rounding decides neither.
    last = descending.gather(0, (firings - 1).clamp(min=0)[None])[0]
    after = descending.gather(0, firings.clamp(max=n - 1)[None])[0]
    shift = torch.where(firings == n, last - 1, torch.where(firings == 0, descending[0] + 1, (last + after) / 2))
    excess = (projections - shift).clamp(min=0).sum(0)
    # Equal contexts have equal projections: where the last firing and the first silent one are tied, no finite gain
    # gives the wanted sum, and the gain is held to what a thousandth of the column's spread above the shift would need.
    least = 1e-3 * projections.std(0) * firings
    return torch.where(firings > 0, strength / torch.maximum(excess, least).clamp(min=1e-30), 1.0), shift


@dataclass(frozen=True, slots=True)
class ShuffledTokens:
    """A token stream whose kept tokens are shuffled within each row: the same words without their order."""

    source: TokenSource
    seed: int

    @property
    def facts(self) -> dict[str, Any]:
        return {**self.source.facts, "shuffled_tokens_seed": self.seed}

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[Cursor, TokenBatch]]:
        """As the source's, in its order; a cursor gives the same shuffle again."""
        for here, batch in self.source.iter_from(cursor):
            name = (self.seed * 1_000_003 + here["document"]) * 1_000_003 + here["batch"]
            yield here, replace(batch, token_ids=_shuffled(batch, torch.Generator().manual_seed(name)))


def _shuffled(batch: TokenBatch, generator: torch.Generator) -> Int[Tensor, "b t"]:
    key = torch.rand(batch.token_ids.shape, generator=generator)
    row = torch.arange(key.shape[0])[:, None].expand_as(key)
    order = (row[batch.keep] + key[batch.keep]).argsort()
    token_ids = batch.token_ids.clone()
    token_ids[batch.keep] = batch.token_ids[batch.keep][order]
    return token_ids
