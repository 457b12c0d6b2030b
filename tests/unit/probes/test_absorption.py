"""Absorption, solved by hand, with both sets of parameters."""

from dataclasses import replace

import pytest
import torch

from probes.absorption import PARAMETERS, absorption, absorption_scores, main_features
from probes.concept_activations import encode_features
from probes.concept_tasks import tasks_of
from tests.planted import WIDTH, PlantedDictionary, coordinates, planted

CODE, PAPER = PARAMETERS["code"], PARAMETERS["paper"]


def _score(projection, main, others, parameters):
    tensors = (torch.tensor([projection]), torch.tensor([main]), torch.tensor([others]))
    return float(absorption_scores(*(tensor.double() for tensor in tensors), parameters))


@pytest.mark.parametrize(
    ("projection", "main", "others", "code", "paper"),
    [
        # The main feature brings all of it.
        (2.0, 2.0, [1.5, 1.0], 0.0, 0.0),
        # It is silent and one other brings half: more than 0.4.
        (2.0, 0.0, [1.0, 0.0], 1.0, 1.0),
        # It is silent and others bring less than 0.4: no absorption by the code, whole by the paper.
        (2.0, 0.0, [0.5, 0.0], 0.0, 1.0),
        # Half is left, others bring 0.8 of it: 0.8 / (0.8 + 1).
        (2.0, 1.0, [0.8, 0.0], 0.8 / 1.8, 0.8 / 1.8),
        # Others bring more than is left: what is left counts, 1 / (1 + 1).
        (2.0, 1.0, [3.0, 0.0], 0.5, 0.5),
        # Five others of 0.3: three count by the code, 0.9 / (0.9 + 1); all by the paper, min(1.5, 1) / (1 + 1).
        (2.0, 1.0, [0.3] * 5, 0.9 / 1.9, 0.5),
        # What points away absorbs nothing.
        (2.0, 0.0, [-3.0, -1.0], 0.0, 0.0),
        # The main feature points away.
        (2.0, -1.0, [1.0, 0.0], 1.0, 1.0),
        # Nothing to explain.
        (-1.0, 0.0, [1.0, 0.0], 0.0, 0.0),
    ],
)
def test_cases_by_hand(projection, main, others, code, paper):
    assert _score(projection, main, others, CODE) == pytest.approx(code)
    assert _score(projection, main, others, PAPER) == pytest.approx(paper)


def _absorbed(data, share):
    """A general feature that is silent on `share` of the concept's words, for which a specific one speaks."""
    special = torch.as_tensor((data.word // 4) % 10 < 10 * share).float()
    acts = data.acts.clone()
    acts[:, 2] = special
    reads = torch.zeros(2, WIDTH)
    reads[0, 0], reads[0, 2] = 1.0, -1.0
    reads[1, 0], reads[1, 2] = 1.0, 1.0
    writes = torch.zeros(2, WIDTH)
    writes[:, 0] = 1.0
    return PlantedDictionary(reads, writes, torch.tensor([0.0, 1.0])), acts


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_planted_absorption_is_found_and_its_share_is_right(share):
    data = planted(n_words=80)
    dictionary, acts = _absorbed(data, share)
    held = type(data)(**{name: getattr(data, name) for name in data.__slots__} | {"acts": acts})
    task = tasks_of(held)[0]
    features = encode_features(dictionary, acts)
    positives = task.test[task.answers("test")]
    wanted = float(acts[torch.as_tensor(positives), 2].mean())
    # Forbid feature splitting to take in the absorber: the main feature stands alone.
    assert main_features(task, features, f1_gain=1.0) == [0]
    found = {row.quantity: row.score.value for row in absorption(task, features)}
    if share == 0:
        assert set(found.values()) == {0.0}
        return
    assert main_features(task, features, f1_gain=0.03) == [0, 1]
    # With splitting allowed both are main and nothing is absorbed.
    assert found["absorption (code)"] == 0.0
    alone = {name: replace(parameters, f1_gain=1.0) for name, parameters in PARAMETERS.items()}
    found = {row.quantity: row.score.value for row in absorption(task, features, parameters=alone)}
    assert found["absorbed whole (code)"] == pytest.approx(wanted, abs=1e-6)
    assert found["absorption (paper)"] == pytest.approx(wanted, abs=1e-6)


def test_a_feature_of_the_opposite_is_none_of_the_concepts():
    data = planted()
    reads = torch.zeros(2, WIDTH)
    reads[0, 0], reads[1, 0] = -1.0, 1.0
    features = encode_features(PlantedDictionary(reads, reads, torch.tensor([-1.0, 0.0])), data.acts)
    assert main_features(tasks_of(data)[0], features, f1_gain=0.03) == [1]


def test_a_perfect_feature_absorbs_nothing():
    data = planted(noise=0.02)
    for row in absorption(tasks_of(data)[0], encode_features(coordinates(*range(WIDTH)), data.acts)):
        if "code" in row.quantity:
            assert row.score.value < 0.02
