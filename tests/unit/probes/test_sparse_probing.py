"""k-sparse probing on planted features: what is held by one feature, by two, by none."""

import torch

from probes.benchmark_rows import BAG_OF_TOKENS, DENSE, FEATURES, MAJORITY, RANDOM
from probes.concept_activations import encode_features
from probes.concept_tasks import tasks_of
from probes.sparse_probing import is_represented, reference_probes, sparse_probing
from tests.planted import WIDTH, PlantedDictionary, coordinates, planted


def _scores(rows):
    return {(row.arm, row.n_features): row.score.value for row in rows}


def test_one_feature_that_is_the_concept_suffices_and_another_is_chance():
    data = planted(noise=0.05)
    task = tasks_of(data)[0]
    features = encode_features(coordinates(0, *range(2, WIDTH)), data.acts)
    scores = _scores(sparse_probing(task, features, ks=(1, 2)))
    assert scores[FEATURES, 1] == 1.0
    assert abs(scores[RANDOM, 1] - 0.5) < 0.2


def test_a_concept_split_over_two_features_takes_both():
    # Each feature fires on one half of the concept's words, told apart by coordinate 2.
    data = planted()
    half = torch.as_tensor((data.word // 4) % 2).float()
    acts = data.acts.clone()
    acts[:, 2] = half
    reads = torch.zeros(2, WIDTH)
    reads[0, 0], reads[0, 2], reads[1, 0], reads[1, 2] = 1, -1, 1, 1
    features = encode_features(PlantedDictionary(reads, torch.eye(WIDTH)[:2], torch.tensor([0.0, 1.0])), acts)
    scores = _scores(sparse_probing(tasks_of(data)[0], features, ks=(1, 2)))
    assert scores[FEATURES, 1] < 0.9
    assert scores[FEATURES, 2] == 1.0


def test_pure_noise_gives_chance_everywhere():
    data = planted(n_words=400, per_word=2)
    acts = torch.randn(data.acts.shape, generator=torch.Generator().manual_seed(1))
    features = encode_features(coordinates(*range(WIDTH)), acts)
    task = tasks_of(data)[0]
    for row in sparse_probing(task, features, ks=(1, 5)):
        assert abs(row.score.value - 0.5) < 0.08
        assert row.score.interval[0] < 0.5 < row.score.interval[1]


def test_a_model_holds_a_concept_only_if_its_activations_say_more_than_its_tokens():
    data = planted(noise=0.05)
    one, two = tasks_of(data)
    for task in (one, two):
        scores = _scores(reference_probes(task))
        assert scores[DENSE, None] == 1.0
        assert scores[MAJORITY, None] == 0.5
        # Held-out words are other tokens.
        assert scores[BAG_OF_TOKENS, None] == 0.5
        assert is_represented(reference_probes(task))
    told = type(data)(**{n: getattr(data, n) for n in data.__slots__} | {"prefixes": [[int(y)] for y in one.y]})
    assert not is_represented(reference_probes(tasks_of(told)[0]))
