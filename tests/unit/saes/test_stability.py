"""A dictionary is found again in itself, whatever its order, and no more than by chance in an unrelated one."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from interp.errors import ShapeError
from saes.one_to_one import Candidates, one_to_one
from saes.stability import (
    BLOCK,
    MIN_FIRINGS,
    correlation_blocks,
    cosine_blocks,
    jaccard_blocks,
    likeness,
    stability,
)


def _dictionary(f=60, d=48, n=4000, *, seed=1):
    """Random directions, and firings that are rare and random."""
    draw = np.random.default_rng(seed)
    fires = sparse.random(n, f, density=0.02, random_state=draw, dtype=np.float32, format="csr")
    return draw.standard_normal((f, d)).astype(np.float32), fires


def _blocks(make, *matrices):
    return np.concatenate(list(make(*matrices)))


def test_a_dictionary_is_like_itself():
    rows, fires = _dictionary()
    same = stability((rows, 3 * rows), (fires, fires))
    for one in (same.cosine, same.correlation, same.jaccard):
        assert (one.mean_max, one.matched_mean) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))
        assert (one.share_above_07, one.share_above_09) == (1, 1)
        assert (sum(one.histogram), one.histogram[-1]) == (60, 60)
    assert same.n_features == (60, 60)


def test_order_does_not_matter():
    rows, fires = _dictionary()
    order = np.random.default_rng(3).permutation(60)
    other = stability((rows, rows[order]), (fires, fires[:, order]))
    assert other.cosine.matched_mean == pytest.approx(1, abs=1e-5)
    assert other.correlation.matched_mean == pytest.approx(1, abs=1e-5)
    assert other.jaccard.matched_mean == 1


def test_unrelated_dictionaries_are_as_like_as_chance():
    one, two = _dictionary(seed=1), _dictionary(seed=2)
    found = stability((one[0], two[0]), (one[1], two[1]))
    for way in ("cosine", "correlation", "jaccard"):
        real, null = getattr(found, way), getattr(found, f"{way}_null")
        assert real.mean_max == pytest.approx(null.mean_max, rel=0.15), way
        assert real.share_above_07 == 0


def test_a_part_of_a_dictionary_is_found_and_the_rest_is_not():
    """Half of the features are the same: the mean over matched ones is one half and what chance gives the others."""
    one, two = _dictionary(seed=1), _dictionary(seed=2)
    rows = np.concatenate([one[0][:30], two[0][30:]])
    fires = sparse.hstack([one[1][:, :30], two[1][:, 30:]], format="csr")
    found = stability((one[0], rows), (one[1], fires))
    assert found.cosine.share_above_09 == 0.5
    assert found.jaccard.share_above_09 == 0.5
    assert 0.5 < found.cosine.matched_mean < 0.8


def test_correlation_is_pearsons_over_all_tokens():
    (_, a), (_, b) = _dictionary(f=9, n=200, seed=1), _dictionary(f=7, n=200, seed=2)
    want = np.corrcoef(a.toarray().T, b.toarray().T)[:9, 9:]
    np.testing.assert_allclose(_blocks(correlation_blocks, a.tocsc(), b.tocsc()), want, atol=1e-5)


def test_jaccard_by_hand():
    """Of three tokens the first feature fires on two, the second on the last two, the third never with the first."""
    fires = sparse.csc_matrix(np.array([[2.0, 0, 0], [1, 5, 0], [0, 1, 3]], dtype=np.float32))
    np.testing.assert_allclose(_blocks(jaccard_blocks, fires, fires), [[1, 1 / 3, 0], [1 / 3, 1, 1 / 2], [0, 1 / 2, 1]])


def test_blocks_change_nothing():
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal((n, 4)).astype(np.float32) for n in (BLOCK + 70, 90))
    np.testing.assert_allclose(_blocks(cosine_blocks, a, b), a @ b.T, rtol=1e-5, atol=1e-5)
    in_blocks, whole = likeness(cosine_blocks(a, b), 90), likeness(iter([a @ b.T]), 90)
    assert in_blocks.mean_max == pytest.approx(whole.mean_max, rel=1e-6)
    assert in_blocks.matched_mean == pytest.approx(whole.matched_mean, rel=1e-6)


def test_pairs_add_up_to_the_most_that_any_pairing_does():
    """Against all pairings of five by four, one by one."""
    value = np.random.default_rng(5).uniform(-0.5, 1, size=(5, 4))
    best = max(
        sum(max(0.0, value[row, column]) for column, row in enumerate(rows))
        for rows in itertools.permutations(range(5), 4)
    )
    found = one_to_one(Candidates.of(value, 4), 4)
    assert found.value.sum() == pytest.approx(best)
    partners = found.partner[found.partner >= 0]
    assert len(set(partners.tolist())) == len(partners)


def test_what_points_away_has_no_partner():
    found = one_to_one(Candidates.of(np.array([[-0.9, -0.1], [0.2, -0.3]]), 2), 2)
    assert found.partner.tolist() == [-1, 0]
    assert found.value.tolist() == [0.0, pytest.approx(0.2)]


def test_features_that_hardly_fire_are_not_compared():
    rows, fires = _dictionary(f=3)
    dense = fires.toarray()
    dense[:, 1] = 0
    dense[: MIN_FIRINGS - 1, 1] = 1
    found = stability((rows, rows), (sparse.csr_matrix(dense), fires))
    assert found.n_features == (2, 3)
    assert stability((rows, rows), (sparse.csr_matrix(np.zeros_like(dense)), fires)) is None


def test_other_tokens_are_refused():
    rows, fires = _dictionary()
    with pytest.raises(ShapeError, match="same tokens"):
        stability((rows, rows), (fires, fires[:-1]))
