from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from saes.feature_pass.choose import band_firings, random_firings, strongest_spans
from saes.feature_pass.cut import cut_windows
from saes.feature_pass.firing import strength
from saes.feature_pass.ragged import largest_in_rows
from tests.one_pass import Invented, invented, read, spilled


def _one_feature(n, n_features=1):
    """Every token fires, each in a span of its own."""
    values = np.random.default_rng(3).random((n, n_features)).astype(np.float32) + 0.1
    every = np.arange(n)
    return Invented(values, np.zeros(n, int), every, np.ones(n, bool), every, 2)


def test_the_largest_of_each_row_come_first_and_ties_by_first_occurrence():
    rng = np.random.default_rng(0)
    row, value = np.sort(rng.integers(0, 9, 300)), rng.integers(0, 20, 300)
    found, rank = largest_in_rows(row, value, 6)
    expected = [i for line in range(9) for i in sorted(np.flatnonzero(row == line), key=lambda i: (-value[i], i))[:6]]
    assert found.tolist() == expected
    assert rank.tolist() == [i for line in range(9) for i in range(min(6, int((row == line).sum())))]
    none = np.zeros(0, int)
    assert largest_in_rows(none, none, 3)[0].size == 0


def test_rows_need_not_be_sorted_nor_all_be_there():
    row, value = np.array([5, 2, 5, 2, 5]), np.array([0.5, 2.0, 1.5, 0.1, 1.0], dtype=np.float32)
    found, rank = largest_in_rows(row, value, 2)
    assert found.tolist() == [1, 3, 2, 4]
    assert rank.tolist() == [0, 1, 0, 1]


def test_random_windows_are_uniform_over_firings(tmp_path):
    _, firings = read(_one_feature(20, n_features=4000), tmp_path)
    for seed in (0, 1):
        chosen = random_firings(firings, 5, seed)
        assert (np.bincount(chosen.row) == 5).all()
        pairs = np.stack([chosen.row, chosen.entry])
        assert np.unique(pairs, axis=1).shape == pairs.shape
        # Each of 20 places is in a quarter of the samples, and so is it within every slot.
        assert chisquare(np.bincount(firings.places[chosen.entry], minlength=20)).pvalue > 1e-3
        assert chisquare(np.bincount(firings.places[chosen.entry[chosen.slot == 0]], minlength=20)).pvalue > 1e-3


def test_random_windows_depend_neither_on_blocks_nor_on_value(tmp_path):
    made = invented()
    _, firings = read(made, tmp_path / "whole")
    whole = random_firings(firings, 4, 0)
    spill = spilled(made, tmp_path / "part", batches_per_shard=1)
    part = spill.firings(spill.feature_offsets(), 2, 5)
    chosen = random_firings(part, 4, 0)
    inside = (whole.row >= 2) & (whole.row < 5)
    assert part.places[chosen.entry].tolist() == firings.places[whole.entry[inside]].tolist()


def test_bands_are_drawn_uniformly_and_apart(tmp_path):
    _, firings = read(_one_feature(40, n_features=3000), tmp_path)
    edges = strength(firings, largest=1.1, n_bands=4).edges
    chosen = band_firings(firings, edges, 3, seed=0)
    assert (np.bincount(chosen.row) == 12).all()
    values = firings.values[chosen.entry]
    rank = (firings.values.reshape(-1, 40)[chosen.row] < values[:, None]).sum(1)
    assert (rank // 10 == chosen.slot // 3).all()
    assert chisquare(np.bincount(rank, minlength=40)).pvalue > 1e-3
    # The random windows are another draw.
    other = random_firings(firings, 12, 0)
    same = len(set(other.entry.tolist()) & set(chosen.entry.tolist())) / chosen.entry.size
    assert same == pytest.approx(12 / 40, abs=0.02)


def test_windows_of_equal_firings_are_drawn_uniformly_over_spans_and_within_them(tmp_path):
    # Ten spans of four tokens each, of which a code fires on all with the same strength; the last feature has a peak.
    values = np.ones((40, 3000), np.float32)
    values[17, -1] = 2.0
    every = np.arange(40)
    made = Invented(values, np.zeros(40, int), every // 4, np.ones(40, bool), every // 4, 2)
    text, firings = read(made, tmp_path)
    chosen = strongest_spans(firings, text, 3, seed=1)
    assert (np.bincount(chosen.row) == 3).all()
    place = firings.places[chosen.entry]
    drawn = chosen.row < 2999
    pairs = np.stack([chosen.row, text.span[place]])
    assert np.unique(pairs, axis=1).shape == pairs.shape
    assert chisquare(np.bincount(place[drawn], minlength=40)).pvalue > 1e-3
    assert place[~drawn].tolist() == [17, 0, 4]
    assert firings.values[chosen.entry[drawn]].tolist() == [1.0] * int(drawn.sum())
    # The random windows are another draw.
    other = random_firings(firings, 3, 1)
    same = len(set(other.entry.tolist()) & set(chosen.entry.tolist())) / chosen.entry.size
    assert same == pytest.approx(3 / 40, abs=0.02)


def test_a_feature_with_few_firings_shows_each_once(tmp_path):
    made = _one_feature(3)
    text, firings = read(made, tmp_path)
    edges = strength(firings, largest=1.1, n_bands=5).edges
    assert sorted(random_firings(firings, 10, 0).entry.tolist()) == [0, 1, 2]
    assert sorted(band_firings(firings, edges, 5, 0).entry.tolist()) == [0, 1, 2]
    assert strongest_spans(firings, text, 5).entry.tolist() == np.argsort(-made.acts[:, 0]).tolist()


def test_nothing_fires_nothing_is_shown(tmp_path):
    made = _one_feature(4)
    text, firings = read(replace(made, acts=made.acts * 0), tmp_path)
    edges = strength(firings, largest=0.0, n_bands=2).edges
    drawn = (random_firings(firings, 2, 0), band_firings(firings, edges, 2, 0))
    for chosen in (*drawn, strongest_spans(firings, text, 2)):
        records = cut_windows(firings, text, chosen, 2, 5)
        assert (records["value"] == 0).all()
        assert (records["tokens"] == -1).all()
