"""Scores against known features: dictionaries whose scores are known beforehand."""

from dataclasses import dataclass, replace

import pytest
import torch

from interp.code import Code
from interp.errors import DataError
from saes.ground_truth import score_against_truth, scored_features
from saes.ground_truth_hedging import hedging
from saes.matching import cosines, pair
from saes.synthetic_build import build_world
from saes.synthetic_config import SyntheticConfig
from saes.synthetic_world import Tokens

# Orthogonal directions of equal strength: what fires can be read off the activations.
CLEAN = SyntheticConfig(
    n_features=24, width=24, l0=3.0, n_trees=2, branching=2, depth=1, child_share=0.6, group_size=3, lift=4.0,
    strength_spread=0.0, token_spread=0.0, noise=0.0, offset=0.0,
)  # fmt: skip
N_TOKENS = 20_000


@dataclass(frozen=True)
class Handmade:
    """A dictionary whose code of a batch is whatever a function of the activations says."""

    decoder: torch.Tensor
    acts: object
    hooks_in: tuple[str, ...] = ("synthetic",)
    hooks_out: tuple[str, ...] = ("synthetic",)

    @property
    def d_sae(self):
        return self.decoder.shape[0]

    def encode(self, x):
        return Code.from_dense(self.acts(x))

    def decode(self, code, *, prefix=None):
        return code.dense() @ self.decoder

    def directions(self, features):
        return self.decoder[features]


@pytest.fixture(scope="module")
def world():
    return build_world(CLEAN)


def _tokens(world, n=N_TOKENS, seed=7):
    return [world.draw(n // 4, torch.Generator().manual_seed(seed + part)) for part in range(4)]


def _read(world, chosen=slice(None)):
    """Strengths of the chosen features, exact where directions are orthogonal and noise is absent."""
    return lambda x: (x @ world.directions[chosen].t()).round().clamp(min=0)


def _score(dictionary, world):
    return score_against_truth(dictionary, world, _tokens(world))[0]


def test_a_perfect_dictionary_scores_one_and_nothing_is_absorbed_or_hedged(world):
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    scores = _score(Handmade(world.directions[order], _read(world, order)), world)
    perfect = ("f1", "precision", "recall", "mcc", "mcc_activation", "f1_paired", "uniqueness", "explained_variance")
    for name in perfect:
        assert getattr(scores, name) == pytest.approx(1.0, abs=1e-5), name
    assert scores.absorption == 0
    assert scores.hedging == pytest.approx(0.0, abs=1e-6)
    assert scores.dead_share == 0
    assert scores.l0 == scores.true_l0 == pytest.approx(3.0, abs=0.1)


def test_a_true_dictionary_of_fewer_latents_than_features_scores_one_on_what_it_holds(world):
    chosen = scored_features(world, 10)
    scores = _score(Handmade(world.directions[chosen], _read(world, chosen)), world)
    for name in ("f1", "mcc", "mcc_activation", "f1_paired", "uniqueness"):
        assert getattr(scores, name) == pytest.approx(1.0, abs=1e-5), name
    # What is not held is missed with its mean; the variance is about it. Directions are orthogonal.
    missed = world.energy().sum() - world.energy()[chosen].sum()
    every = torch.cat([batch.truth.dense() for batch in _tokens(world)]) @ world.directions
    variance = every.var(0, correction=0).sum()
    assert scores.explained_variance == pytest.approx(1 - float(missed / variance), abs=0.02)


def test_a_spare_latent_that_never_fires_counts_as_dead_and_as_zero(world):
    decoder = torch.cat([world.directions, world.directions[:1]])
    scores = _score(Handmade(decoder, lambda x: torch.cat([_read(world)(x), torch.zeros(len(x), 1)], dim=1)), world)
    assert scores.dead_share == pytest.approx(1 / 25)
    assert scores.f1 == pytest.approx(24 / 25, abs=1e-5)
    assert scores.f1_paired == pytest.approx(1.0, abs=1 / 24 + 1e-5)
    assert scores.uniqueness == pytest.approx(24 / 25)


def _absorbing(world, child_alone):
    """Children's latents that hold their parent too; the parent's latent fires only where none of them does.

    `child_alone` children of each parent are left as they are.
    """
    decoder, absorbed = world.directions.clone(), []
    for parent in (0, 1):
        for child in world.children(parent).tolist()[child_alone:]:
            decoder[child] = (world.directions[parent] + world.directions[child]) / 2**0.5
            absorbed.append((parent, child))

    def acts(x):
        strength = _read(world)(x)
        for parent, child in absorbed:
            strength[:, parent] *= strength[:, child] == 0
            strength[:, child] *= 2**0.5
        return strength

    return Handmade(decoder, acts)


@pytest.mark.parametrize(("child_alone", "rate"), [(0, 0.6), (1, 0.3), (2, 0.0)])
def test_an_absorbing_dictionary_scores_the_share_of_the_parent_s_tokens_that_was_built_in(world, child_alone, rate):
    scores = _score(_absorbing(world, child_alone), world)
    assert scores.absorption == pytest.approx(rate, abs=0.03)
    # It costs no reconstruction, which is why it happens.
    assert scores.explained_variance == pytest.approx(1.0, abs=1e-5)
    # A parent's direction in a child's latent is no hedging.
    assert scores.hedging == pytest.approx(0.0, abs=1e-6)


def test_absorption_is_measured_exactly_on_tokens_counted_by_hand(world):
    child = int(world.children(0)[0])
    fires = torch.zeros(4, 24)
    fires[:, 0], fires[0, child] = 1, 1
    tokens = [Tokens(fires @ world.directions, Code.from_dense(fires))]
    scores, _ = score_against_truth(_absorbing(world, 0), world, tokens)
    assert scores.absorption == 0.25


def test_a_parent_that_is_missed_or_split_over_two_latents_is_not_absorbed(world):
    def missed(x):
        strength = _read(world)(x)
        strength[:, 0] *= strength[:, world.children(0)].sum(1) == 0
        return strength

    assert _score(Handmade(world.directions, missed), world).absorption == 0

    def split(x):
        with_child = _read(world)(x)[:, world.children(0)].sum(1) > 0
        strength = torch.cat([_read(world)(x), _read(world)(x)[:, :1]], dim=1)
        strength[with_child, 0] = 0
        strength[~with_child, -1] = 0
        return strength

    assert _score(Handmade(torch.cat([world.directions, world.directions[:1]]), split), world).absorption == 0


def _hedged(world, angle):
    """Every root's direction turned by an angle towards one of its group."""
    decoder = world.directions.clone()
    for feature in world.roots.nonzero()[:, 0].tolist():
        mate = next(k for k in world.companions(feature).tolist() if world.roots[k])
        decoder[feature] = angle.cos() * world.directions[feature] + angle.sin() * world.directions[mate]
    return decoder


@pytest.mark.parametrize("degrees", [0.0, 20.0, 35.0])
def test_a_hedging_dictionary_scores_the_squared_sine_of_the_angle_that_was_built_in(world, degrees):
    angle = torch.tensor(degrees).deg2rad()
    pairs = pair(cosines(world.directions, _hedged(world, angle)).abs())
    n_roots, n = int(world.roots.sum()), world.n_features
    expected = float(angle.sin() ** 2) * n_roots / n
    assert hedging(world, _hedged(world, angle), pairs) == pytest.approx(expected, abs=1e-5)


def test_a_true_dictionary_in_superposition_hedges_exactly_nothing():
    world = build_world(CLEAN.model_copy(update={"n_features": 60, "width": 16}))
    pairs = pair(cosines(world.directions, world.directions).abs())
    assert hedging(world, world.directions, pairs) == pytest.approx(0.0, abs=1e-6)


def test_without_trees_and_groups_there_is_nothing_to_absorb_or_to_hedge():
    world = build_world(CLEAN.model_copy(update={"n_trees": 0, "group_size": 1}))
    scores = _score(Handmade(world.directions, _read(world)), world)
    assert scores.absorption is None
    assert scores.hedging is None


def test_random_directions_that_fire_at_random_score_at_chance():
    config = SyntheticConfig(n_features=300, width=64, l0=4.0, n_trees=4, branching=3, depth=1, orthogonal_steps=0)
    world = build_world(config)
    generator = torch.Generator().manual_seed(1)
    decoder, rate = torch.nn.functional.normalize(torch.randn(80, 64, generator=generator), dim=1), 0.05
    random = Handmade(decoder, lambda x: (torch.rand(len(x), 80, generator=generator) < rate).float())
    scores = _score(random, world)
    other = torch.nn.functional.normalize(torch.randn(300, 64, generator=generator), dim=1)
    chance = float(pair(cosines(other, decoder).abs()).likeness.mean())
    assert scores.mcc == pytest.approx(chance, abs=0.02)
    assert scores.mcc_activation < 0.05
    # Independent of the truth: precision is the feature's density, recall the latent's.
    density = world.density()[cosines(world.directions, decoder).abs().argmax(0)].double()
    assert scores.precision == pytest.approx(float(density.mean()), abs=0.003)
    assert scores.recall == pytest.approx(rate, abs=0.01)
    assert scores.absorption < 0.02
    assert abs(scores.hedging) < 0.03


def test_explained_variance_is_about_the_mean_of_all_tokens(world):
    shifted = replace(world, offset=torch.full((24,), 5.0))
    mean = 5 + (world.density() * world.strength) @ world.directions
    constant = Handmade(torch.eye(24), lambda x: (mean + 100).expand(len(x), 24))

    @dataclass(frozen=True)
    class Shifted(Handmade):
        def decode(self, code, *, prefix=None):
            return code.dense() - 100

    scores = _score(Shifted(constant.decoder, constant.acts), shifted)
    assert scores.explained_variance == pytest.approx(0.0, abs=2e-3)


def test_features_are_told_apart(world):
    dictionary = Handmade(world.directions, lambda x: _read(world)(x) * (torch.arange(24) != 5))
    _, features = score_against_truth(dictionary, world, _tokens(world))
    assert features.pairs.feature.tolist() == list(range(24))
    assert features.detection.f1.tolist() == [float(i != 5) for i in range(24)]
    error = (features.density - world.density()).abs()
    assert float(error.max()) < 0.02


def test_no_tokens_are_refused(world):
    with pytest.raises(DataError, match="no tokens"):
        score_against_truth(Handmade(world.directions, _read(world)), world, [])
