"""The online code: counted by hand where it can be, long on noise, short on what is planted."""

import math
from itertools import pairwise

import numpy as np
import pytest

from probes.description_length import FRACTIONS, block_ends, online_code


def _documents(n, size=10):
    return np.arange(n) // size


def test_blocks_end_at_the_published_fractions():
    assert block_ends(10_000) == (10, 20, 40, 80, 160, 320, 625, 1250, 2500, 5000, 10_000)
    assert block_ends(100) == (1, 2, 3, 6, 12, 25, 50, 100)
    assert sum(FRACTIONS) == pytest.approx(1.0 + 0.5 + 0.25 + 0.125 + 0.0625 + 0.063)


def test_without_inputs_the_code_is_laplaces_rule_applied_block_by_block():
    y = np.random.default_rng(0).integers(0, 3, 400) % 2
    found = online_code(np.zeros((400, 0)), y, np.zeros(400, dtype=int), n_classes=2)
    bits, ends = found.ends[0] * 1.0, found.ends
    for start, end in pairwise(ends):
        ones = y[:start].sum()
        for answer in y[start:end]:
            seen = ones if answer else start - ones
            bits -= math.log2((seen + 1) / (start + 2))
    assert found.bits == pytest.approx(bits, rel=1e-9)
    assert found.label_bits == pytest.approx(bits, rel=1e-9)
    assert sum(found.block_bits) == pytest.approx(bits, rel=1e-9)
    assert found.gain.value == pytest.approx(1.0)
    assert found.compression.value == pytest.approx(400 / bits)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_noise_takes_as_many_bits_as_the_labels_themselves(n_classes):
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(3000, 30)), draw.integers(0, n_classes, 3000)
    found = online_code(x, y, _documents(3000), n_classes=n_classes)
    assert 0.96 < found.compression.value < 1.005
    assert 0.97 < found.gain.value < 1.005


def test_uneven_classes_compress_without_inputs_and_noise_gains_nothing_over_that():
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(3000, 20)), (draw.random(3000) < 0.1).astype(int)
    found = online_code(x, y, _documents(3000), n_classes=2)
    assert found.compression.value > 1.9
    assert 0.96 < found.gain.value < 1.01


def test_a_planted_signal_is_short_and_the_clearer_the_shorter():
    draw = np.random.default_rng(3)
    y = draw.integers(0, 4, 2000)
    lengths = []
    for strength in (1.0, 2.0, 6.0):
        x = draw.normal(size=(2000, 20))
        x[np.arange(2000), y] += strength
        lengths.append(online_code(x, y, _documents(2000), n_classes=4).bits)
    assert lengths[0] > lengths[1] > lengths[2]
    assert 2000 * 2 / lengths[2] > 8
    # A signal that gives every label away cannot beat the first block, which is coded blindly.
    assert lengths[2] > 2 * block_ends(2000)[0]


def test_its_interval_holds_it_and_its_order_is_of_whole_documents():
    draw = np.random.default_rng(4)
    y = draw.integers(0, 2, 600)
    x = draw.normal(size=(600, 3)) + 2 * y[:, None]
    found = online_code(x, y, _documents(600, 20), n_classes=2)
    assert found.compression.interval[0] < found.compression.value < found.compression.interval[1]
    shuffled = draw.permutation(600)
    # The same documents in another order of rows: the same order of documents, hence nearly the same code.
    again = online_code(x[shuffled], y[shuffled], _documents(600, 20)[shuffled], n_classes=2)
    assert again.bits == pytest.approx(found.bits, rel=0.15)
    assert type(found).from_json(found.to_json()) == found
