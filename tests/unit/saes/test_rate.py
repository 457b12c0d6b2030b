"""Bits per token: by hand, by brute force over all sets, and the quantiser's round trips."""

import itertools
import math

import pytest
import torch

from interp.code import Code
from interp.errors import ConfigError
from saes.rate import SupportCounts, ValueQuantiser, cell_entropy, gaussian_explained
from saes.rate_curve import QuantisedDictionary, rate_curve, variances_of
from tests.steps import new_sae, planted


def counted(rows, d_sae, n_parts=1):
    """Counts of codes given as the active features of each token."""
    counts = SupportCounts(d_sae, n_parts)
    dense = torch.zeros(len(rows), d_sae)
    for row, features in enumerate(rows):
        dense[row, list(features)] = 1.0
    counts.add(Code.from_dense(dense))
    return counts


def test_two_of_four_by_hand():
    found = counted([{0, 1}, {0, 1}, {0, 2}, {0, 3}], 4).bits()
    assert found.count == 0
    # Six pairs; p = (1, 1/2, 1/4, 1/4); of eight draws 4, 2, 1, 1, less the two orders.
    assert math.isclose(found.subsets, math.log2(6))
    assert math.isclose(found.independent, 1 + 2 * (0.5 + 0.75 * math.log2(4 / 3)))
    assert math.isclose(found.draws, 2 * (0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3) - 1)
    assert found.coder == "draws" if found.draws < found.subsets else found.coder == "subsets"
    assert found.bits == min(found.subsets, found.independent, found.draws)


def test_a_number_that_varies_is_paid_for():
    found = counted([set(), {0}, {0, 1}, {0, 1}], 2).bits()
    assert math.isclose(found.count, 0.25 * 2 + 0.25 * 2 + 0.5 * 1)
    # One set of none, two of one, one of two.
    assert math.isclose(found.subsets, found.count + 0.25 * 1)
    assert math.isclose(found.independent, -0.75 * math.log2(0.75) - 0.25 * math.log2(0.25) + 1)


def test_one_active_feature_takes_the_entropy_of_which():
    found = counted([{0}, {0}, {1}, {2}], 8).bits()
    assert math.isclose(found.draws, 1.5)
    assert found.coder == "draws"
    assert math.isclose(found.subsets, 3)


def test_parts_are_coded_apart_and_add_up():
    rows = [{0, 4}, {0, 5}, {1, 6}, {1, 7}]
    found = counted(rows, 8, n_parts=2).bits()
    halves = [counted([{f - low for f in row if low <= f < low + 4} for row in rows], 4).bits() for low in (0, 4)]
    assert math.isclose(found.draws, 1 + 2)
    assert math.isclose(found.subsets, 2 * math.log2(4))
    assert math.isclose(found.independent, sum(half.independent for half in halves))
    # Without knowing of the parts all pairs of eight are possible.
    assert math.isclose(counted(rows, 8).bits().subsets, math.log2(28))


@pytest.mark.parametrize("seed", range(4))
def test_no_coder_beats_the_entropy_of_whole_sets(seed):
    generator = torch.Generator().manual_seed(seed)
    density = torch.rand(6, generator=generator)
    fires = torch.rand(400, 6, generator=generator) < density
    rows = [frozenset(row.nonzero()[:, 0].tolist()) for row in fires]
    sets = {one: rows.count(one) / 400 for one in set(rows)}
    entropy = -sum(p * math.log2(p) for p in sets.values())
    found = counted(rows, 6).bits()
    assert min(found.subsets, found.independent, found.draws) >= entropy - 1e-9


def test_even_firing_costs_what_telling_one_set_of_all_does():
    rows = list(itertools.combinations(range(6), 3))
    found = counted(rows, 6).bits()
    assert math.isclose(found.subsets, math.log2(20))
    assert found.coder == "subsets"


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantising_twice_is_quantising_once_and_misses_by_half_a_cell_at_most(bits):
    code = Code.from_dense(torch.rand(500, 12, generator=torch.Generator().manual_seed(0)).double() * 3 - 1)
    quantiser = ValueQuantiser.fit([code], bits)
    once = Code(quantiser.quantised(code), code.features, code.row_offsets, 12)
    assert bool(((once.values - code.values).abs() <= quantiser.width[code.features] / 2 + 1e-12).all())
    torch.testing.assert_close(quantiser.quantised(once), once.values)
    assert torch.equal(quantiser.cells(once), quantiser.cells(code))
    assert int(quantiser.cells(code).max()) == 2**bits - 1
    assert 0 < cell_entropy(quantiser, [code]) <= bits


def test_cells_by_hand():
    values = torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0])
    code = Code(values, torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 4, 5]), 2)
    quantiser = ValueQuantiser.fit([code], 1)
    assert quantiser.cells(code).tolist() == [0, 0, 1, 1, 0]
    assert quantiser.quantised(code).tolist() == [2.0, 2.0, 4.0, 4.0, 7.0]
    assert math.isclose(cell_entropy(quantiser, [code]), 0.6 * math.log2(5 / 3) + 0.4 * math.log2(5 / 2), rel_tol=1e-6)
    assert ValueQuantiser.fit([code], 0).quantised(code).tolist() == [2.75, 2.75, 2.75, 2.75, 7.0]
    with pytest.raises(ConfigError, match="bits: got -1"):
        ValueQuantiser.fit([code], -1)


def test_gaussian_bound_by_hand():
    assert math.isclose(gaussian_explained(torch.tensor([1.0]), 1.0), 0.75)
    # Two equal axes share the bits; a third far below the water gets none.
    assert math.isclose(gaussian_explained(torch.tensor([4.0, 4.0, 0.1]), 2.0), 1 - (1 + 1 + 0.1) / 8.1, rel_tol=1e-9)
    assert math.isclose(gaussian_explained(torch.tensor([3.0, 1.0]), 0.0), 0.0, abs_tol=1e-9)


def test_a_codebook_has_one_point_and_an_sae_comes_to_its_exact_values():
    x, documents = planted(3000), torch.arange(3000) // 100
    codebook, _ = rate_curve(new_sae("codebook", codebook_variant="residual", n_stages=4), x, documents)
    assert [point.value_bits for point in codebook.points] == [0]
    assert codebook.n_parts == 4
    assert codebook.points[0].explained_variance == codebook.explained_variance
    assert codebook.support.bits <= 4 * math.log2(12) + 1e-9
    topk, quantisers = rate_curve(new_sae("topk"), x, documents)
    errors = [topk.explained_variance - point.explained_variance for point in topk.points]
    # A half of a cell of 1/256 of each range is next to nothing.
    assert abs(errors[-1]) < 1e-3 < errors[1]
    assert [point.bits for point in topk.points] == sorted(point.bits for point in topk.points)
    assert all(point.values <= point.values_fixed + 1e-9 for point in topk.points)
    assert topk.chosen.explained_variance >= topk.explained_variance - 0.01
    assert quantisers[3].bits == 3


def test_a_quantised_dictionary_decodes_what_arrives():
    sae, x = new_sae("topk").eval(), planted(200)
    _, quantisers = rate_curve(sae, x, torch.zeros(200, dtype=torch.int64), value_bits=(2,))
    quantised = QuantisedDictionary(sae, quantisers[2])
    with torch.no_grad():
        code = quantised.encode(x)
        assert torch.equal(code.values, quantisers[2].quantised(sae.encode(x).active()))
        assert torch.equal(quantised.decode(code), sae.decode(code))


def test_variances_are_those_along_the_axes():
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([3.0, 1.0, 2.0])
    torch.testing.assert_close(variances_of(x).sum(), (x - x.mean(0)).square().sum() / 4000)
    assert variances_of(x).tolist() == sorted(variances_of(x).tolist())


def test_several_hooks_are_refused():
    with pytest.raises(ConfigError, match="one hook"):
        rate_curve(new_sae("topk", "transcoder"), planted(20), torch.zeros(20, dtype=torch.int64))
