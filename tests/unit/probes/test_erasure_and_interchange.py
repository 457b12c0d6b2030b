"""Targeted erasure and interchange (RAVEL): planted features, and identities on the embedded model."""

import numpy as np
import pytest
import torch

import interp
from interp.datasets import DataConfig, open_stream
from probes.benchmark_rows import FEATURES, ORACLE, RANDOM
from probes.concept_activations import encode_features
from probes.concept_tasks import tasks_of
from probes.concepts import EntitySet
from probes.entity_readings import behaviour_reader, entity_rows
from probes.neurons import NeuronDictionary
from probes.ravel import WHOLE, disentanglement
from probes.targeted_erasure import taking_out, targeted_erasure
from probes.text_cost import TextCosts
from tests.planted import HOOK, WIDTH, coordinates, planted

EMBEDDING = "blocks.0.hook_resid_pre"


@pytest.fixture(scope="module")
def model():
    return interp.load_model("embedded", device="cpu")


@pytest.fixture(scope="module")
def people():
    names = {
        "female": ("Lily", "Sue", "Mia", "Lucy", "Anna", "Amy"),
        "male": ("Tim", "Tom", "Ben", "Sam", "Bob", "Jack"),
    }
    return EntitySet.parse(
        {
            "kind": "entities",
            "name": "people",
            "entities": {n: {"gender": g, "name": n} for g, held in names.items() for n in held},
            "templates": {
                "gender": ["One day, %s was sad because", "%s smiled because"],
                "name": ["Once there was a child named %s. One day,"],
            },
            "answers": {
                "gender": {"female": " she", "male": " he"},
                "name": {n: f" {n}" for held in names.values() for n in held},
            },
            "split": dict.fromkeys(("Lily", "Sue", "Mia", "Tim", "Tom", "Ben"), "test"),
        }
    )


def _scores(rows, concept, quantity):
    return {(r.arm, r.n_features): r.score.value for r in rows if (r.concept, r.quantity) == (concept, quantity)}


def test_erasing_the_concepts_own_feature_costs_that_concept_alone():
    data = planted(n_words=80, noise=0.02)
    one, two = tasks_of(data)
    # A feature that is never silent takes its whole coordinate out: nothing is left to a new probe either.
    features = {"planted": encode_features(coordinates(*range(WIDTH), bias=-2.0), data.acts)}
    rows = targeted_erasure(one, features, [two], ns=(1,))
    own, others = (_scores(rows, "planted: one", q) for q in ("concept's loss", "others' loss"))
    assert own[FEATURES, 1] == pytest.approx(0.5, abs=0.15)
    assert own[ORACLE, None] == pytest.approx(0.5, abs=0.15)
    assert own[RANDOM, 1] == 0.0
    assert others[FEATURES, 1] == 0.0


def test_taking_out_every_feature_of_a_lossless_dictionary_leaves_its_centre():
    x = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(0))
    neurons = NeuronDictionary((HOOK,), x.mean(0))
    torch.testing.assert_close(neurons.decode(neurons.encode(x)), x)
    out = taking_out(neurons, range(2 * WIDTH))(x)
    torch.testing.assert_close(out, x.mean(0).expand_as(x))
    torch.testing.assert_close(taking_out(neurons, [])(x), x)
    # The same through the columns of a harvested set.
    torch.testing.assert_close(encode_features(neurons, x).without(x, range(2 * WIDTH)), out)


def test_a_change_of_nothing_costs_nothing_and_noise_costs(model):
    stream = open_stream("embedded", model, DataConfig(), split="heldout")
    costs = TextCosts(model, [next(stream.iter_pass())], HOOK)
    nothing = costs.of(lambda x: x)
    assert abs(nothing.delta_ce.value) < 1e-6
    assert abs(nothing.kl.value) < 1e-6
    noise = costs.of(lambda x: x + 5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    assert noise.kl.value > 0.5
    assert noise.delta_ce.interval[0] > 0.1


def test_readings_of_unchanged_activations_are_the_models_own(model, people):
    rows = entity_rows(model, people, "gender", (EMBEDDING,))
    reader = behaviour_reader(model, rows, people.answers["gender"], (EMBEDDING,))
    # "One day, Lily was sad because" is followed by she; the model knows its names.
    assert reader.known.mean() > 0.9
    # With another's embedding the sentence is the other's.
    n = len(people.entities)
    other = rows.template * n + (n - 1 - rows.entity)
    read = reader.read(np.arange(len(rows.placed)), rows.acts[torch.as_tensor(other)])
    assert (read == reader.truth[other]).mean() > 0.9


def test_interchanging_all_of_a_lossless_dictionary_is_the_whole_activation(model, people):
    d = model.d_model
    neurons = NeuronDictionary((EMBEDDING,), torch.zeros(d))
    rows = disentanglement(model, people, neurons, ns=(0, 2 * d), n_pairs=30)
    for attribute in ("gender", "name"):
        concept = f"people: {attribute} (behaviour)"
        cause, isolation = (_scores(rows, concept, quantity) for quantity in ("cause", "isolation"))
        # At the embedding nothing of the name has gone elsewhere: with it everything goes.
        assert cause[WHOLE, None] > 0.8
        assert isolation[WHOLE, None] < 0.2
        assert cause[FEATURES, 2 * d] == cause[WHOLE, None]
        assert isolation[FEATURES, 2 * d] == isolation[WHOLE, None]
        # Nothing interchanged: nothing follows, everything stays.
        assert cause[FEATURES, 0] == 0.0
        assert isolation[FEATURES, 0] == 1.0
        both = _scores(rows, concept, "disentangle")
        assert both[FEATURES, 2 * d] == pytest.approx((cause[WHOLE, None] + isolation[WHOLE, None]) / 2)


def test_a_probe_reads_gender_where_behaviour_is_not_asked_for(model, people):
    hook = "blocks.1.hook_resid_post"
    rows = disentanglement(
        model, people, NeuronDictionary((hook,), torch.zeros(model.d_model)), reading="probe", ns=(1,), n_pairs=30
    )
    # Names as such cannot be probed on other names, so gender stands alone.
    assert {row.concept for row in rows} == {"people: gender (probe)"}
    assert _scores(rows, "people: gender (probe)", "cause")[WHOLE, None] == 1.0
