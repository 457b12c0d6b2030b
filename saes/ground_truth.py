"""How much of known features a dictionary found: the scores that only ground truth can give.

Axes: b tokens, t true features, f latents, d width of the activations, m pairs.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.code import FeatureDictionary
from interp.errors import DataError
from saes.ground_truth_absorption import AbsorptionTally
from saes.ground_truth_hedging import hedging
from saes.ground_truth_tally import Tally
from saes.matching import Detection, Pairs, cosines, pair
from saes.synthetic_world import Tokens, World


@dataclass(frozen=True, slots=True)
class TruthScores:
    """Scores of a dictionary against the features that made its input.

    `precision`, `recall` and `f1` are means over latents, each against the true feature nearest to its decoder row by
    absolute cosine; several latents may share one (`uniqueness`: distinct features per latent). The same with
    `_paired` are means over pairs made one to one (Hungarian method on absolute cosines), as many as the fewer of
    both; `mcc` is the mean absolute cosine of these pairs, `mcc_activation` the mean absolute correlation over tokens
    of activation and true strength, of pairs made by that. A dead latent counts 0 in all of these that look at
    firing.
    `absorption` and `hedging`: see AbsorptionTally and hedging; None where there is nothing to measure them on.
    Source: MCC of decoders: O'Neill et al. 2025 (arXiv 2505.20254); F1 against the nearest feature, uniqueness:
    Chanin and Garriga-Alonso 2026 (arXiv 2602.14687).
    """

    f1: float
    precision: float
    recall: float
    mcc: float
    mcc_activation: float
    f1_paired: float
    precision_paired: float
    recall_paired: float
    uniqueness: float
    explained_variance: float
    absorption: float | None
    hedging: float | None
    dead_share: float
    l0: float
    true_l0: float

    def facts(self) -> dict[str, float | None]:
        """Plain values by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FeatureScores:
    """What became of each paired feature. Shapes: all (m,)."""

    pairs: Pairs
    detection: Detection
    density: Float[Tensor, " m"]


@torch.no_grad()
def score_against_truth(
    dictionary: FeatureDictionary, world: World, tokens: Iterable[Tokens]
) -> tuple[TruthScores, FeatureScores]:
    """Scores over all latents, and of each paired feature, from tokens given in batches.

    Raises: DataError if there are no tokens.
    """
    decoder = dictionary.directions(torch.arange(dictionary.d_sae))
    cosine = cosines(world.directions, decoder)
    pairs, nearest = pair(cosine.abs()), cosine.abs().argmax(0)
    tally = Tally(pairs=pairs, nearest=nearest)
    absorbed = AbsorptionTally(world, decoder, pairs, scored_features(world, dictionary.d_sae))
    for batch in tokens:
        code = dictionary.encode(batch.x)
        tally.add(batch, code, dictionary.decode(code))
        absorbed.add(batch, code)
    if tally.n_tokens == 0:
        raise DataError("got no tokens to score on; expected at least one batch; give more evaluation tokens")
    by_latent, by_pair = tally.by_nearest(), tally.by_pair()
    scores = TruthScores(
        f1=_mean(by_latent.f1),
        precision=_mean(by_latent.precision),
        recall=_mean(by_latent.recall),
        mcc=_mean(pairs.likeness),
        mcc_activation=_mean(pair(tally.correlation().abs()).likeness),
        f1_paired=_mean(by_pair.f1),
        precision_paired=_mean(by_pair.precision),
        recall_paired=_mean(by_pair.recall),
        uniqueness=nearest.unique().shape[0] / dictionary.d_sae,
        explained_variance=tally.explained_variance(),
        absorption=absorbed.rate(),
        hedging=hedging(world, decoder, pairs),
        dead_share=_mean((tally.fired == 0).double()),
        l0=int(tally.fired.sum()) / tally.n_tokens,
        true_l0=int(tally.true.sum()) / tally.n_tokens,
    )
    density = tally.true[pairs.feature].double() / tally.n_tokens
    return scores, FeatureScores(pairs, by_pair, density)


def scored_features(world: World, d_sae: int) -> Int[Tensor, " m"]:
    """The features that an SAE of d_sae latents gains most by: those of most energy, ascending."""
    return world.energy().topk(min(d_sae, world.n_features)).indices.sort().values


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
