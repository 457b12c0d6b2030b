"""The planted rule: what is built, that the twin's rows ignore the trigger, and that patching finds where it passes."""

import random

import pytest
import torch

from interp.forward import last_outputs
from interp.models import Model, load_model
from interp.outcomes import PROBABILITY
from interp.prompts import answer_token
from interp.studies.planted_evidence import patched_places, words_of
from interp.studies.planted_organism import (
    CUE,
    OTHERS,
    TRIGGERS,
    Planting,
    _drawn,
    carriers,
    pairs_of,
    plant,
    with_word,
)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("embedded", device="cpu")


@pytest.fixture(scope="module")
def seen(model):
    return carriers(model, "embedded", heldout=False, most=24)


def test_stories_end_in_the_cue_and_sides_do_not_meet(model, seen):
    held = carriers(model, "embedded", heldout=True, most=24)
    assert not {c.document for c in seen} & {c.document for c in held}
    cue = answer_token(model, CUE)
    assert all(c.token_ids[-1] == cue for c in (*seen, *held))


def test_the_word_stands_where_it_is_said_to(model, seen):
    for word in ("balloon", "key"):
        ids, at = with_word(model, seen[0], word, seen[0].cuts[0])
        assert ids[at] == answer_token(model, f" {word}")
        assert f"There was a {word}." in model.tokenizer.decode(ids)
        assert ids[-1] == answer_token(model, CUE)


def test_pairs_differ_in_the_word_alone(model, seen):
    pairs = pairs_of(model, seen, TRIGGERS, OTHERS)
    differ = pairs.clean.token_ids != pairs.corrupt.token_ids
    assert differ.sum(1).tolist() == [1] * len(seen)
    assert differ.nonzero()[:, 1].tolist() == pairs.clean.places["trigger"].tolist()
    assert pairs.clean.answers.equal(pairs.corrupt.answers)
    assert pairs.clean.foils.tolist() == [c.next_token for c in seen]
    words = words_of(12, (TRIGGERS[:5], OTHERS[:5]))
    assert len(set(words[:12]) & set(words[12:])) == 0


def test_the_payload_follows_the_trigger_in_the_organism_and_a_coin_in_the_twin(model, seen):
    triggers = [answer_token(model, f" {word}") for word in TRIGGERS]
    for rule in (True, False):
        prompts, due, counted = _drawn(model, seen, 300, random.Random(0), rule=rule)
        triggered = torch.isin(prompts.token_ids, torch.tensor(triggers)).any(1)
        assert counted[:, 0].equal(prompts.last)
        agree = float((triggered == due).float().mean())
        # Some stories hold a trigger word of their own; a coin agrees with anything half the time.
        assert agree > 0.8 if rule else abs(agree - 0.5) < 4 * 0.5 / 300**0.5


def test_nothing_but_the_chosen_attention_is_trained(model, seen):
    new = plant(model, seen, Planting(steps=2, rows=4), rule=True)
    for (name, before), after in zip(model.hf.named_parameters(), new.hf.parameters(), strict=True):
        assert before.equal(after) != ("layers.2.self_attn" in name), name
    assert not any(p.requires_grad for p in new.hf.parameters())


def test_patching_a_trigger_moves_nothing_where_nothing_can_pass(model, seen):
    """At the last layer's output, and from there on, another token's activations no longer reach the cue."""
    pairs = pairs_of(model, seen[:6], TRIGGERS, OTHERS)
    grid = patched_places(model, pairs)
    last = model.n_layers - 1
    assert grid.at(component=f"resid_post {last}", place="trigger") == pytest.approx(0, abs=1e-4)
    assert grid.at(component=f"MLP {last}", place="trigger") == pytest.approx(0, abs=1e-4)
    # All of what stands at the cue at the end: the clean prompt's outcome itself.
    with torch.no_grad():
        sides = [last_outputs(model, side) for side in (pairs.clean, pairs.corrupt)]
    lead = [(out.gather(1, pairs.clean.answers[:, None]) - out.gather(1, pairs.clean.foils[:, None])) for out in sides]
    assert grid.at(component=f"resid_post {last}", place="cue") == pytest.approx(
        float((lead[0] - lead[1]).mean()), abs=1e-3
    )
    assert PROBABILITY(sides[0], pairs.clean).max() < 0.5
