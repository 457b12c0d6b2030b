"""p values that are exact, false discoveries that stay rare, effects that are their formulas."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu

from probes.contrast import auc_interval, auc_of, cohens_d
from probes.permutation import ENOUGH, benjamini_hochberg, least_p, permutation_p


def test_p_is_the_share_of_all_ways_to_deal_documents():
    draw = np.random.default_rng(0)
    values = draw.standard_normal((9, 5)) + np.linspace(0, 4, 5) * (np.arange(9) < 4)[:, None]
    first = np.arange(9) < 4
    seen = np.abs(values[:4].mean(0) - values[4:].mean(0))
    ways = []
    for chosen in combinations(range(9), 4):
        held = np.isin(np.arange(9), chosen)
        ways.append(np.abs(values[held].mean(0) - values[~held].mean(0)) >= seen - 1e-12)
    exact = np.mean(ways, axis=0)
    found = permutation_p(values, first, most_draws=20_000, seed=1)
    assert found[exact > 0.1] == pytest.approx(exact[exact > 0.1], rel=3 / np.sqrt(ENOUGH))
    # The largest difference is rare: it gets all draws.
    assert found[-1] == pytest.approx(exact[-1], abs=0.004)


def test_p_of_noise_is_uniform():
    draw = np.random.default_rng(1)
    p = permutation_p(draw.standard_normal((30, 2000)), np.arange(30) < 12, most_draws=2000)
    for level in (0.01, 0.05, 0.2, 0.5):
        # Three standard errors of a share of 2,000.
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 2000)
    assert (p <= 0.5).mean() > 0.45


def test_a_feature_that_is_the_same_everywhere_is_never_extreme():
    assert permutation_p(np.full((10, 1), 0.3), np.arange(10) < 5).tolist() == [1.0]


def test_few_documents_cannot_give_a_small_p():
    values = np.where(np.arange(6) < 3, 1.0, 0.0)[:, None]
    assert least_p(6, 3) == 2 / 20
    assert least_p(7, 3) == 1 / 35
    assert permutation_p(values, np.arange(6) < 3, most_draws=5000)[0] == pytest.approx(2 / 20, rel=0.5)
    assert least_p(2000, 1000, most_draws=999) == 1 / 1000


def test_false_discovery_rates_are_scipy_s():
    p = np.random.default_rng(0).random(200) ** 3
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p), abs=1e-14)


def test_noise_gives_no_discoveries_beyond_expectation():
    """Where nothing differs, Benjamini-Hochberg at 5% finds something in at most one set of features of twenty."""
    found = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        # Sparse features, as SAEs have them.
        values = draw.exponential(size=(40, 50)) * (draw.random((40, 50)) < 0.3)
        found += bool((benjamini_hochberg(permutation_p(values, np.arange(40) < 20, most_draws=3000)) <= 0.05).any())
    # 8 of 60 is beyond three standard errors of a rate of 5%.
    assert found <= 8


def test_planted_differences_are_found_and_little_else():
    draw = np.random.default_rng(3)
    values = draw.standard_normal((80, 300))
    first = np.arange(80) < 40
    values[:40, :15] += 1.5
    found = np.flatnonzero(benjamini_hochberg(permutation_p(values, first, most_draws=20_000)) <= 0.05)
    assert set(range(15)) <= set(found.tolist())
    assert (found >= 15).sum() <= 4


def test_effect_sizes_are_their_formulas():
    draw = np.random.default_rng(0)
    values = np.round(draw.standard_normal((25, 3)), 1)
    first = np.arange(25) < 11
    one, two = values[first], values[~first]
    pooled = np.sqrt((10 * one.var(0, ddof=1) + 13 * two.var(0, ddof=1)) / 23)
    assert cohens_d(values, first) == pytest.approx((one.mean(0) - two.mean(0)) / pooled)
    expected = mannwhitneyu(one, two).statistic / (11 * 14)
    assert auc_of(values, first) == pytest.approx(expected)
    assert np.isnan(cohens_d(np.ones((4, 1)), np.arange(4) < 2)).all()


def test_the_interval_of_an_auc_holds_it_and_shrinks_with_documents():
    draw = np.random.default_rng(0)
    widths = []
    for n in (20, 320):
        values = draw.standard_normal(2 * n) + (np.arange(2 * n) < n)
        first = np.arange(2 * n) < n
        low, high = auc_interval(values, first)
        assert low < auc_of(values[:, None], first)[0] < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)


def test_the_interval_of_an_auc_is_that_of_all_pairs_drawn_again():
    draw = np.random.default_rng(3)
    values = np.round(draw.standard_normal(23), 1)
    first = draw.permutation(23) < 9
    again, (one, two) = np.random.default_rng(7), (values[first], values[~first])
    counts = [again.multinomial(x.size, np.full(x.size, 1 / x.size), size=400) for x in (one, two)]
    drawn = [auc_of(np.concatenate([np.repeat(one, a), np.repeat(two, b)])[:, None], np.arange(23) < 9)[0]
             for a, b in zip(*counts, strict=True)]  # fmt: skip
    assert auc_interval(values, first, seed=7) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-12)


def test_the_interval_of_an_auc_needs_no_table_of_all_pairs():
    values = np.random.default_rng(0).standard_normal(6000)
    tracemalloc.start()
    auc_interval(values, np.arange(6000) < 3000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Pairs alone would be 72 MB, draws of documents are 19.
    assert peak < 3000 * 3000 * 8 * 2
