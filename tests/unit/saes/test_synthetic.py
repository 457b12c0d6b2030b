"""A tree of known features: what fires, how often, together with what."""

import pytest
import torch

from interp.errors import ConfigError
from saes.synthetic import HOOK, FeatureTree, SyntheticActivations, toy_tree

N_TOKENS = 400_000


@pytest.fixture(scope="module")
def sample():
    tree = toy_tree(0)
    return tree, tree.sample(N_TOKENS, torch.Generator().manual_seed(1))


def test_densities_are_products_of_conditional_probabilities(sample):
    tree, _ = sample
    expected = torch.tensor([0.15] * 3 + [0.15 * 0.2] * 9 + [0.05] * 8)
    torch.testing.assert_close(tree.density(), expected)
    assert float(tree.density().sum()) == pytest.approx(1.12)


def test_each_feature_fires_as_often_as_its_density_says(sample):
    tree, fires = sample
    density = tree.density()
    error = (fires.float().mean(0) - density).abs()
    assert (error < 4.5 * (density * (1 - density) / N_TOKENS).sqrt()).all()


def test_a_child_never_fires_without_its_parent(sample):
    tree, fires = sample
    assert not (fires & ~fires[:, tree.parent]).any()


def test_children_of_one_parent_exclude_each_other_and_leave_two_fifths_of_its_tokens_alone(sample):
    tree, fires = sample
    for parent in tree.parents:
        children = fires[fires[:, parent]][:, (tree.parent == parent) & ~tree.roots].sum(1)
        assert int(children.max()) == 1
        n = children.shape[0]
        assert float((children == 0).float().mean()) == pytest.approx(0.4, abs=4.5 * (0.24 / n) ** 0.5)


def test_roots_fire_independently(sample):
    tree, fires = sample
    roots = fires[:, tree.roots].double()
    correlation = torch.corrcoef(roots.t()) - torch.eye(roots.shape[1], dtype=torch.float64)
    assert float(correlation.abs().max()) < 5 / N_TOKENS**0.5


def test_children_of_different_parents_fire_independently_given_that_both_parents_fire(sample):
    _, fires = sample
    both = fires[fires[:, 0] & fires[:, 1]]
    together = (both[:, 3] & both[:, 6]).float().mean()
    assert float(together) == pytest.approx(0.04, abs=4.5 * (0.04 * 0.96 / both.shape[0]) ** 0.5)


def test_directions_are_orthogonal_with_norms_near_one():
    directions = toy_tree(3).directions.double()
    norms = torch.linalg.vector_norm(directions, dim=1)
    unit = directions / norms[:, None]
    torch.testing.assert_close(unit @ unit.t(), torch.eye(20, dtype=torch.float64), atol=1e-6, rtol=0)
    assert 0.8 < float(norms.min()) < float(norms.max()) < 1.2
    assert 0.02 < float(norms.std()) < 0.09


def test_a_chain_of_three_levels_multiplies_its_probabilities():
    chain = FeatureTree(torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.5, 0.5]), torch.eye(3))
    torch.testing.assert_close(chain.density(), torch.tensor([0.5, 0.25, 0.125]))
    fires = chain.sample(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(fires.float().mean(0), chain.density(), atol=0.01, rtol=0)
    assert not (fires & ~fires[:, chain.parent]).any()


def test_activations_are_sums_of_what_fires():
    tree = toy_tree(0)
    fires = torch.zeros(2, 20, dtype=torch.bool)
    fires[1, [0, 4]] = True
    x = tree.activations(fires)
    torch.testing.assert_close(x[0], torch.zeros(20))
    torch.testing.assert_close(x[1], tree.directions[0] + tree.directions[4])


def test_a_batch_depends_on_its_number_only():
    tree = toy_tree(0)
    one, other = (SyntheticActivations(tree, batch_size=3, seed=5) for _ in range(2))
    drawn = [next(one).acts[HOOK] for _ in range(300)]
    assert one.cursor() == {"step": 300}
    other.seek({"step": 299})
    assert torch.equal(next(other).acts[HOOK], drawn[299])
    other.seek({"step": 2})
    assert torch.equal(next(other).acts[HOOK], drawn[2])
    different = SyntheticActivations(tree, batch_size=3, seed=6)
    assert not torch.equal(torch.cat([next(different).acts[HOOK] for _ in range(300)]), torch.cat(drawn))


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match="batch_size: got 0"):
        SyntheticActivations(toy_tree(0), batch_size=0, seed=0)
