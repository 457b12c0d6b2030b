"""SCR and TPP: the formulas by hand, and planted dictionaries on which they are 1 or 0."""

import math

import numpy as np
import pytest
import torch

from probes.benchmark_rows import FEATURES, ORACLE, RANDOM
from probes.concept_activations import encode_features
from probes.concept_tasks import tasks_of
from probes.logistic import fit_logistic
from probes.neurons import NeuronDictionary
from probes.scr_tpp import scr, scr_score, tpp, tpp_score
from tests.planted import HOOK, WIDTH, PlantedDictionary, coordinates, planted, several_classes


def _scores(rows, quantity):
    return {(row.arm, row.n_features): row.score.value for row in rows if row.quantity == quantity}


def test_scr_by_hand():
    assert scr_score(0.6, 0.8, 1.0) == pytest.approx(0.5)
    assert scr_score(0.6, 0.6, 1.0) == 0.0
    assert scr_score(0.6, 1.0, 1.0) == 1.0
    assert scr_score(0.6, 0.5, 1.0) == pytest.approx(-0.25)
    assert math.isnan(scr_score(0.99, 1.0, 1.0))


def test_tpp_by_hand():
    # Own probes lose 0.4, 0.2; the other loses 0.1, 0.0.
    after = np.array([[0.5, 0.8], [0.9, 0.7]])
    assert tpp_score([0.9, 0.9], after) == pytest.approx(((0.4 - 0.1) + (0.2 - 0.0)) / 2)
    assert tpp_score([0.9, 0.9], np.full((2, 2), 0.9)) == 0.0


def test_features_of_its_own_repair_a_biased_probe_and_random_ones_do_not():
    data = planted(n_words=80, noise=0.02)
    # The attribute is plus or minus one, each told by a feature: without both it is nought, the middle.
    features = encode_features(NeuronDictionary((HOOK,), torch.zeros(WIDTH)), data.acts)
    found = _scores(scr(data, features, "one", "two", ns=(2,)), "repair")
    assert found[FEATURES, 2] == pytest.approx(1.0, abs=0.02)
    assert found[ORACLE, None] == pytest.approx(1.0, abs=0.02)
    assert abs(found[RANDOM, 2]) < 0.2


def test_a_feature_that_holds_both_attributes_cannot_repair():
    data = planted(n_words=80, noise=0.02)
    reads = torch.zeros(2, WIDTH)
    reads[0, 0], reads[0, 1] = 1.0, 2.0
    reads[1] = -reads[0]
    both = PlantedDictionary(reads, reads, torch.zeros(2))
    found = _scores(scr(data, encode_features(both, data.acts), "one", "two", ns=(2,)), "repair")
    assert found[FEATURES, 2] < 0.5


def test_tpp_of_planted_classes_is_what_setting_their_coordinates_to_nought_gives():
    data = several_classes(noise=0.02)
    tasks = tasks_of(data)
    rows = tpp(tasks, encode_features(coordinates(*range(WIDTH)), data.acts), ns=(1,))
    probes = [fit_logistic(task.x("train"), task.answers("train")) for task in tasks]
    before = [
        probe.correct(task.x("test"), task.answers("test")).mean() for probe, task in zip(probes, tasks, strict=True)
    ]
    after = np.zeros((3, 3))
    for i in range(3):
        for j, (probe, task) in enumerate(zip(probes, tasks, strict=True)):
            x = task.x("test").copy()
            x[:, i] = np.minimum(x[:, i], 0)
            after[i, j] = probe.correct(x, task.answers("test")).mean()
    found = _scores(rows, "own minus others")
    assert found[FEATURES, 1] == pytest.approx(tpp_score(before, after))
    assert found[FEATURES, 1] > 0.1
    assert found[ORACLE, None] > 0.1
    parts = _scores(rows, "own probe's loss")[FEATURES, 1] - _scores(rows, "others' loss")[FEATURES, 1]
    assert found[FEATURES, 1] == pytest.approx(parts)


def test_taking_out_nothing_changes_nothing():
    data = several_classes(noise=0.02)
    silent = coordinates(6, 7, bias=100.0)
    for row in tpp(tasks_of(data), encode_features(silent, data.acts), ns=(2,)):
        if row.arm == FEATURES:
            assert row.score.value == 0.0
