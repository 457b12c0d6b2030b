"""Known features of any number: every statistic is what the config says it is."""

import pytest
import torch

from interp.errors import ConfigError
from saes.synthetic import HOOK
from saes.synthetic_batches import SyntheticBatches
from saes.synthetic_build import build_world, spread_directions
from saes.synthetic_config import SyntheticConfig

N_TOKENS = 200_000
PLAIN = {"strength_spread": 0.0, "token_spread": 0.0, "noise": 0.0, "offset": 0.0}
SMALL = SyntheticConfig(
    n_features=120,
    width=32,
    l0=6.0,
    n_trees=4,
    branching=3,
    depth=2,
    child_share=0.6,
    group_size=4,
    group_rate=0.1,
    lift=4.0,
)


def _fires(config, n_tokens=N_TOKENS):
    world = build_world(config)
    return world, world.sample(n_tokens, torch.Generator().manual_seed(11)).dense() > 0


@pytest.fixture(scope="module", params=[True, False], ids=["exclusive", "independent"])
def drawn(request):
    return _fires(SMALL.model_copy(update={"exclusive": request.param}))


def test_each_feature_fires_as_often_as_its_density_says(drawn):
    world, fires = drawn
    density = world.density().double()
    error = (fires.double().mean(0) - density).abs()
    assert (error < 5 * (density * (1 - density) / N_TOKENS).sqrt()).all()


def test_the_l0_is_the_configured_one(drawn):
    world, fires = drawn
    assert float(world.density().sum()) == pytest.approx(6.0, rel=1e-5)
    assert float(fires.double().sum(1).mean()) == pytest.approx(6.0, abs=0.05)


def test_roots_fire_by_a_power_law_of_their_rank(drawn):
    world, _ = drawn
    density = world.density()[world.roots].double()
    rank = torch.arange(1, density.shape[0] + 1, dtype=torch.float64)
    torch.testing.assert_close(density / density[0], rank**-0.5, atol=1e-6, rtol=1e-5)


def test_a_child_never_fires_without_its_parent(drawn):
    world, fires = drawn
    assert int((~world.roots).sum()) == 4 * (3 + 9)
    assert not (fires & ~fires[:, world.parent]).any()


def test_siblings_exclude_each_other_or_are_independent_given_their_parent(drawn):
    world, fires = drawn
    for parent in range(4):
        given = fires[fires[:, parent]][:, world.children(parent)].double()
        n = given.shape[0]
        each, both = given.mean(0), float((given[:, 0] * given[:, 1]).mean())
        torch.testing.assert_close(each, torch.full_like(each, 0.2), atol=5 * (0.16 / n) ** 0.5, rtol=0)
        if world.exclusive:
            assert int(given.sum(1).max()) == 1
        else:
            assert both == pytest.approx(0.04, abs=5 * (0.04 * 0.96 / n) ** 0.5)


def test_features_of_a_group_fire_together_as_often_more_than_by_chance_as_configured(drawn):
    world, fires = drawn
    roots = world.roots.nonzero()[:, 0]
    density, group = world.density()[roots].double(), world.group[roots]
    together = (fires[:, roots].float().t() @ fires[:, roots].float()).double() / N_TOKENS
    chance = torch.outer(density, density)
    same = (group[:, None] == group[None]) & ~torch.eye(roots.shape[0], dtype=torch.bool)
    # Frequent ones cannot be boosted as far as the rest.
    free = world.boost[roots] > world.boost[roots].max() - 1e-6
    full = same & free[:, None] & free[None]
    assert float(together[full].sum() / chance[full].sum()) == pytest.approx(4.0, abs=0.15)
    other = ~same & ~torch.eye(roots.shape[0], dtype=torch.bool)
    assert float(together[other].sum() / chance[other].sum()) == pytest.approx(1.0, abs=0.01)


def test_groups_of_one_fire_independently():
    world, fires = _fires(SMALL.model_copy(update={"group_size": 1}))
    roots = fires[:, world.roots].double()
    correlation = torch.corrcoef(roots.t()).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 5.5 / N_TOKENS**0.5


def test_a_group_is_whole_but_for_the_last_and_children_are_in_that_of_their_root():
    world = build_world(SMALL)
    sizes = torch.bincount(world.group[world.roots])
    assert sizes.tolist() == [4] * 18
    assert torch.equal(world.group, world.group[world.parent])


def test_strength_has_the_configured_mean_and_spread():
    world = build_world(SMALL.model_copy(update={"strength_spread": 0.3, "token_spread": 0.4}))
    assert float(world.strength.log().std()) == pytest.approx(0.3, abs=0.08)
    truth = world.sample(50_000, torch.Generator().manual_seed(0))
    logs = (truth.values / world.strength[truth.features]).double().log()
    assert float(logs.std()) == pytest.approx(0.4, abs=0.005)
    assert float(logs.exp().mean()) == pytest.approx(1.0, abs=0.005)
    energy = torch.zeros(120).index_add_(0, truth.features, truth.values.square()) / 50_000
    assert float(energy.sum()) == pytest.approx(float(world.energy().sum()), rel=0.03)


def test_activations_are_what_fires_plus_the_offset_plus_noise_of_the_configured_size():
    world = build_world(SMALL.model_copy(update={"noise": 0.1, "offset": 2.0}))
    tokens = world.draw(20_000, torch.Generator().manual_seed(3))
    rest = (tokens.x - tokens.truth.dense() @ world.directions - world.offset).double()
    assert float(torch.linalg.vector_norm(world.offset)) == pytest.approx(2.0, rel=1e-5)
    assert float(rest.std()) == pytest.approx(0.1, rel=0.01)
    assert float(rest.mean(0).abs().max()) < 5 * 0.1 / 20_000**0.5


def test_without_noise_activations_are_exactly_the_sum_of_what_fires():
    world = build_world(SMALL.model_copy(update=PLAIN))
    tokens = world.draw(500, torch.Generator().manual_seed(3))
    assert set(tokens.truth.values.unique().tolist()) == {1.0}
    torch.testing.assert_close(tokens.x, tokens.truth.dense() @ world.directions)


def test_directions_that_fit_are_orthogonal_and_others_nearly():
    generator = torch.Generator().manual_seed(0)
    few = spread_directions(20, 32, 0, generator)
    torch.testing.assert_close(few @ few.t(), torch.eye(20), atol=1e-6, rtol=0)

    def closest(n_steps):
        unit = spread_directions(200, 32, n_steps, torch.Generator().manual_seed(0))
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(200))
        return float((unit @ unit.t()).fill_diagonal_(0).abs().amax(1).mean())

    assert closest(50) < 0.8 * closest(0)


def test_random_ranks_put_tree_roots_anywhere_and_keep_the_law():
    first, anywhere = (build_world(SMALL.model_copy(update={"tree_ranks": ranks})) for ranks in ("first", "random"))
    assert float(first.density()[:4].min()) == float(first.density()[first.roots].topk(4).values.min())
    assert not torch.equal(anywhere.density()[:4], first.density()[:4])
    assert float(anywhere.density().sum()) == pytest.approx(6.0, rel=1e-5)


def test_kin_of_a_small_forest():
    world = build_world(SyntheticConfig(n_features=9, width=16, l0=1.0, n_trees=1, branching=2, depth=2, group_size=3))
    assert world.parent.tolist() == [0, 1, 2, 0, 0, 3, 3, 4, 4]
    assert world.descendants(0).tolist() == [3, 4, 5, 6, 7, 8]
    assert world.descendants(3).tolist() == [5, 6]
    assert world.children(4).tolist() == [7, 8]
    assert sorted(world.companions(0).tolist()) == [1, 2, 3, 4]
    assert sorted(world.companions(3).tolist()) == [1, 2, 4, 5, 6]
    assert sorted(world.companions(8).tolist()) == [1, 2, 7]


def test_a_batch_depends_on_its_number_only():
    world = build_world(SMALL)
    one, other = (SyntheticBatches(world, batch_size=30, seed=5) for _ in range(2))
    drawn = [next(one).acts[HOOK] for _ in range(4)]
    assert one.cursor() == {"step": 4}
    other.seek({"step": 3})
    assert torch.equal(next(other).acts[HOOK], drawn[3])
    assert torch.equal(other.draw(1).x, drawn[1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(next(SyntheticBatches(world, batch_size=30, seed=6)).acts[HOOK], drawn[0])


def test_the_same_seed_makes_the_same_features_and_another_others():
    one, same, other = (build_world(SMALL.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    assert torch.equal(one.directions, same.directions)
    assert torch.equal(one.group, same.group)
    assert not torch.equal(one.directions, other.directions)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"n_trees": 100}, "more than n_features"),
        ({"lift": 20.0}, "at most 10"),
        ({"exclusive": False, "branching": 1, "depth": 1, "child_share": 0.95}, "at most 0.9"),
    ],
)
def test_what_does_not_fit_together_is_refused(values, told):
    with pytest.raises(ConfigError, match=told):
        SyntheticConfig.parse(values)


def test_an_l0_out_of_reach_is_refused():
    with pytest.raises(ConfigError, match="l0: got 100"):
        build_world(SMALL.model_copy(update={"l0": 100.0}))


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match="batch_size: got 0"):
        SyntheticBatches(build_world(SMALL), batch_size=0, seed=0)
