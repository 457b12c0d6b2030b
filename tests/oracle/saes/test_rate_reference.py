"""Bits and distortion against a second way to them: every set of features counted, every value rounded on its own."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from interp.code import Code
from saes.rate import SupportCounts
from saes.rate_curve import n_parts_of, rate_curve
from tests.steps import new_sae, planted

CODERS = ("subsets", "independent", "draws")


def lengths_of(rows, features):
    """What each coder spends on a set of these features, given how often they and sets of each size were met."""
    sizes, fired = Counter(map(len, rows)), Counter(f for row in rows for f in row)
    n, n_fired = len(rows), sum(fired.values())

    def length(coder, chosen):
        if coder == "independent":
            told = (fired[f] / n if f in chosen else 1 - fired[f] / n for f in features)
            return -math.log2(math.prod(told))
        count = -math.log2(sizes[len(chosen)] / n)
        if coder == "subsets":
            return count + math.log2(sum(1 for _ in itertools.combinations(features, len(chosen))))
        # Drawn one after the other, in whichever order.
        orders = itertools.permutations(chosen)
        return count - math.log2(sum(math.prod(fired[f] / n_fired for f in order) for order in orders))

    return length


def drawn_rows(seed, n_features, n_tokens=80):
    generator = torch.Generator().manual_seed(seed)
    fires = torch.rand(n_tokens, n_features, generator=generator) < torch.rand(n_features, generator=generator)
    return [frozenset(row.nonzero()[:, 0].tolist()) for row in fires]


def counted(rows, d_sae, n_parts):
    dense = torch.zeros(len(rows), d_sae)
    for row, features in enumerate(rows):
        dense[row, list(features)] = 1.0
    counts = SupportCounts(d_sae, n_parts)
    for part in (dense[:30], dense[30:]):
        counts.add(Code.from_dense(part))
    return counts.bits()


@pytest.mark.parametrize("n_parts", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_bits_are_the_mean_length_of_the_sets_that_came(seed, n_parts):
    rows, size = drawn_rows(seed, 6), 6 // n_parts
    found = counted(rows, 6, n_parts)
    parts = [range(start, start + size) for start in range(0, 6, size)]
    wanted, counts = dict.fromkeys(CODERS, 0.0), 0.0
    for part in parts:
        own = [row & set(part) for row in rows]
        length = lengths_of(own, part)
        counts += entropy(list(Counter(map(len, own)).values()), base=2)
        for coder in CODERS:
            wanted[coder] += sum(length(coder, row) for row in own) / len(own)
    assert math.isclose(found.count, counts, rel_tol=1e-9)
    for coder in CODERS:
        assert math.isclose(getattr(found, coder), wanted[coder], rel_tol=1e-9), coder
    assert found.bits == min(found.subsets, found.independent, found.draws)


@pytest.mark.parametrize("seed", range(3))
def test_lengths_are_those_of_codes_that_can_be_read(seed):
    """Kraft's inequality over all sets of sizes that were met: a prefix code of these lengths exists."""
    rows = drawn_rows(seed, 6)
    length, met = lengths_of(rows, range(6)), {len(row) for row in rows}
    for coder in CODERS:
        every = [set(one) for size in met for one in itertools.combinations(range(6), size)]
        spent = sum(2 ** -length(coder, one) for one in every)
        assert spent <= 1 + 1e-12, coder
        assert coder != "subsets" or math.isclose(spent, 1)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_k_of_f_never_take_more_than_telling_one_of_all_sets(k):
    generator = torch.Generator().manual_seed(k)
    rows = [frozenset(torch.randperm(9, generator=generator)[:k].tolist()) for _ in range(50)]
    found = counted(rows, 9, 1)
    assert found.count == 0
    assert math.isclose(found.subsets, math.log2(math.comb(9, k)))
    assert found.bits <= math.log2(math.comb(9, k)) + 1e-9


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "jumprelu", "codebook"])
@pytest.mark.parametrize("bits", [0, 2, 5])
def test_explained_variance_and_bits_of_values_rounded_one_by_one(architecture, bits):
    sae, x = new_sae(architecture).eval(), planted(600)
    curve, _ = rate_curve(sae, x, torch.arange(600) // 50, value_bits=(bits,))
    with torch.no_grad():
        dense = sae.encode(x).dense().double().numpy()
    cells, arrived = [], np.zeros_like(dense)
    for feature in range(dense.shape[1]):
        on = dense[:, feature] > 0
        values = dense[on, feature]
        if values.size == 0:
            continue
        low, high = values.min(), values.max()
        edges = np.linspace(low, high, 2**bits + 1)
        cell = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, 2**bits - 1) if high > low else 0 * on[on]
        cells += [int(one) for one in cell]
        middle = (edges[:-1] + edges[1:]) / 2
        arrived[on, feature] = values.mean() if bits == 0 else middle[cell]
    told = 0.0 if architecture == "codebook" else entropy(np.bincount(cells), base=2)
    with torch.no_grad():
        made = sae.decode(Code.from_dense(torch.from_numpy(arrived).float())).double().numpy()
    acts = x.double().numpy()
    lost = ((acts - made) ** 2).sum() / ((acts - acts.mean(0)) ** 2).sum()
    (point,) = curve.points
    assert math.isclose(point.explained_variance, 1 - lost, abs_tol=1e-6)
    assert math.isclose(point.values, len(cells) / 600 * told, rel_tol=1e-6, abs_tol=1e-9)
    rows = [frozenset(np.flatnonzero(row > 0).tolist()) for row in dense]
    assert math.isclose(point.bits - point.values, counted(rows, 48, n_parts_of(sae)).bits, rel_tol=1e-9)
    varies = len({len(row) for row in rows}) > 1
    assert (curve.support.count > 0) == varies == (architecture in ("batch_topk", "jumprelu"))
