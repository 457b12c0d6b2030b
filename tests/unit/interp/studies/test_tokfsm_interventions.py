"""Codes of states, random ones beside them, precision and interventions, on records and models made by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Codebooks, Insertion, new_codebooks, site_hooks
from interp.codebooks.record import Book, CodeRecord, record_codes
from interp.datasets import DataConfig, open_stream
from interp.errors import ConfigError, DataError
from interp.studies import tokfsm_scores
from interp.studies.tokfsm_codes import ClassCodes, class_labels, codes_of_classes, matched_codes, record_labels
from interp.studies.tokfsm_interventions import draw_scene, intervene, next_digits
from interp.studies.tokfsm_machine import Machine
from interp.studies.tokfsm_model import new_model
from interp.studies.tokfsm_precision import detector_precisions
from interp.studies.tokfsm_scores import next_states, score_model

HOOK, Z, MLP = "blocks.0.hook_resid_post", "blocks.0.attn.hook_z", "blocks.0.hook_mlp_out"


@pytest.fixture(scope="module")
def machine():
    return Machine.draw()


@pytest.fixture(scope="module")
def model():
    return new_model(n_layers=1, d_model=16, n_heads=2, context_size=12, seed=0)


def _record(rows, books):
    """Rows of BOS and digits, each a document; books are made of the kept token ids."""
    n, t = rows.shape[0], rows.shape[1] - 1
    ids, row = rows[:, 1:].flatten().numpy(), np.repeat(np.arange(n), t)
    return CodeRecord(ids, np.full(n * t, -1), row, np.tile(np.arange(1, t + 1), n), row, tuple(books))


def _walks(machine, n_rows, n_positions=9):
    return machine.rows(n_rows, n_positions, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["state", "pair"])
def test_labels_of_a_record_are_the_states_that_its_text_spells(machine, model, kind, tmp_path):
    texts = ["".join(map(str, row)) for row in _walks(machine, 7, 10)[:, 1:].tolist()]
    texts[2] = texts[2][:4]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = DataConfig(context_size=12, batch_tokens=36)
    stream = open_stream(str(tmp_path / "text.jsonl"), model, data, split="all")
    codebooks = new_codebooks(model, site_hooks(model, ("attn",)), n_codes=5)
    record = record_codes(model, codebooks, stream.iter_pass(), n_tokens=1000)
    expected = {}
    for text in texts:
        for at in range(len(text)):
            inside = at % 2 == 1 if kind == "state" else at % 2 == 0 and at >= 2
            first = at - 1 if kind == "state" else at - 2
            expected.setdefault(text, []).append(int(text[first : at + 1]) if inside else -1)
    labels = record_labels(record, kind)
    found = {}
    for row in np.unique(record.row):
        here = record.row == row
        found["".join(map(str, record.token_ids[here]))] = labels[here].tolist()
    assert found == expected


@pytest.mark.parametrize("kind", ["state", "pair"])
def test_labels_of_a_record_are_those_of_its_rows(machine, kind):
    rows = _walks(machine, 20)
    assert record_labels(_record(rows, ()), kind).tolist() == class_labels(rows, kind)[:, 1:].flatten().tolist()


def _codebooks(hook, *, n_codes, k=1, n_groups=1, width=16):
    from interp.codebooks.quantise import Quantiser

    return Codebooks({hook: Quantiser(width, n_codes=n_codes, k=k, n_groups=n_groups)})


def test_codes_of_classes_are_the_commonest_and_classes_without_tokens_are_known_as_such(machine):
    rows = _walks(machine, 30)
    labels = record_labels(_record(rows, ()), "state")
    draw = np.random.default_rng(0)
    ids = np.where((draw.random(len(labels)) < 0.9) & (labels >= 0), labels, 100 + draw.integers(0, 20, len(labels)))
    books = [Book(Z, g, 120, ids[:, None]) for g in range(2)]
    known = codes_of_classes(_record(rows, books), _codebooks(Z, n_codes=120, n_groups=2), "state")
    assert known.counts.tolist() == np.bincount(labels[labels >= 0], minlength=100).tolist()
    assert 0 < known.recorded.sum() < 100
    often = np.flatnonzero(known.counts >= 3)
    assert len(often) > 5
    assert known.codes[Z][often, :, 0].tolist() == [[s, s] for s in often]


def _ranked(n_codes):
    """A record in which code c has rank c."""
    ids = np.concatenate([np.full(n_codes - c, c) for c in range(n_codes)])
    return _record(torch.zeros(1, len(ids) + 1, dtype=torch.int64), [Book(Z, 0, n_codes, ids[:, None])])


@pytest.mark.parametrize("k", [1, 4, 16])
def test_random_codes_are_distinct_and_none_of_the_chosen(k):
    record = _ranked(60)
    chosen = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(s))[:k] for s in range(50)])
    # Chosen codes often stand side by side.
    chosen[:10] = torch.arange(10)[:, None] + torch.arange(k)
    drawn = matched_codes(record, {Z: chosen[:, None]}, np.random.default_rng(0))[Z][:, 0]
    for mine, theirs in zip(chosen.tolist(), drawn.tolist(), strict=True):
        assert len({*theirs}) == k
        assert not {*mine} & {*theirs}


def test_random_codes_come_from_the_nearest_frequencies_and_all_of_them():
    record = _ranked(60)
    # One code: five ranks on either side, ten below the first. Two: their window leaves both out.
    cases = [
        ([20], [*range(15, 20), *range(21, 26)]), ([0], [*range(1, 11)]), ([59], [*range(49, 59)]),
        ([30, 31], [*range(25, 30), *range(32, 37)]),
        ([*range(20, 28)], [*range(12, 20), *range(28, 36)]),
    ]  # fmt: skip
    for chosen, window in cases:
        codes = {Z: torch.tensor(chosen)[None, None].expand(400, 1, len(chosen))}
        drawn = matched_codes(record, codes, np.random.default_rng(1))[Z]
        assert drawn.unique().tolist() == window


def test_random_draws_differ_from_each_other():
    codes, generator = {Z: torch.arange(20)[:, None, None]}, np.random.default_rng(0)
    draws = [matched_codes(_ranked(60), codes, generator)[Z].flatten().tolist() for _ in range(100)]
    assert len({tuple(draw) for draw in draws}) == 100


def test_random_codes_are_refused_where_there_are_too_few():
    codes = {Z: torch.arange(6)[None, None]}
    assert sorted(matched_codes(_ranked(12), codes, np.random.default_rng(0))[Z].flatten().tolist()) == [*range(6, 12)]
    with pytest.raises(ConfigError, match="got 11 codes, 6 active"):
        matched_codes(_ranked(11), codes, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["state", "pair"])
def test_scenes_turn_to_recorded_classes_only(machine, kind):
    shape = {"n_rows": 60, "n_positions": 12, "seed": 0}
    free = draw_scene(machine, kind, **shape)
    every = torch.ones(100 if kind == "state" else 1000, dtype=torch.bool)
    assert torch.equal(draw_scene(machine, kind, **shape, recorded=every).target, free.target)
    some = torch.rand(len(every), generator=torch.Generator().manual_seed(0)) < 0.6
    scene = draw_scene(machine, kind, **shape, recorded=some)
    assert some[scene.target].all()
    assert not some[free.target].all()
    assert torch.equal(scene.rows, free.rows)
    with pytest.raises(DataError, match="no other one that was recorded"):
        draw_scene(machine, kind, **shape, recorded=~every)


def test_a_class_that_was_never_recorded_is_not_turned_to(machine, model):
    codebooks = new_codebooks(model, site_hooks(model, ("attn",)), n_codes=30)
    scene = draw_scene(machine, "state", n_rows=4, n_positions=12, seed=0)
    counts = np.ones(100, dtype=np.int64)
    counts[scene.target[1]] = 0
    known = ClassCodes("state", {Z: torch.zeros(100, 2, 1, dtype=torch.int64)}, counts)
    with pytest.raises(DataError, match=f"state {int(scene.target[1])}: was never recorded"):
        intervene(model, codebooks, _ranked(30), scene, known, hooks=[Z], where="", n_controls=0, seed=0)


def test_codes_that_are_there_already_change_nothing(machine, model):
    torch.manual_seed(0)
    codebooks = new_codebooks(model, site_hooks(model, ("attn", "mlp")), n_codes=30, k=3)
    scene = draw_scene(machine, "state", n_rows=40, n_positions=12, seed=0)
    # Each row turns to a class of its own, whose codes are those of its last token.
    scene = replace(scene, target=torch.arange(40))
    with Insertion(model, codebooks) as insertion, torch.no_grad():
        model.hf(scene.rows)
        codes = {hook: found.ids[:, -1] for hook, found in insertion.take().items()}
    assert {hook: tuple(x.shape) for hook, x in codes.items()} == {Z: (40, 2, 3), MLP: (40, 1, 3)}
    known = ClassCodes("state", codes, np.ones(40, dtype=np.int64))
    found = intervene(
        model, codebooks, _ranked(30), scene, known, hooks=codebooks.hooks, where="x", n_controls=0, seed=0
    )
    assert found.jsd == 1.0
    assert found.valid_with == found.valid_without
    without = next_digits(model, codebooks, scene.rows)
    floor, base = (jensen_shannon(without, x).mean() for x in (scene.own, scene.wanted))
    assert found.floor == pytest.approx(float(floor / base))
    assert found.valid_without == pytest.approx(float((without * (scene.wanted > 0)).sum(1).mean()))


def _reads_codes(machine):
    """A model whose next digit is that of the state whose code stands at its last hook; codes from 100 on mean none."""
    d = 120
    model = new_model(n_layers=1, d_model=d, n_heads=2, context_size=16, seed=0)
    codebooks = _codebooks(HOOK, n_codes=d, width=d)
    digits = torch.full((d, 11), 1e-12)
    digits[:100, :10] = torch.from_numpy(machine.first_digit).float().clamp_min(1e-12)
    digits[100:, :10] = 0.1
    with torch.no_grad():
        codebooks[HOOK].codes.copy_(1000 * torch.eye(d)[None])
        # The final norm makes of a one-hot code its own multiple again.
        std = (1 / d * (1 - 1 / d)) ** 0.5
        model.final_norm.weight.fill_(std)
        model.final_norm.bias.fill_(1 / d)
        model.unembedding.weight.copy_(digits.log().T)
    return model, codebooks


def test_planted_codes_make_a_model_behave_as_in_the_other_state_and_random_ones_do_not(machine, monkeypatch):
    model, codebooks = _reads_codes(machine)
    rows = _walks(machine, 400, 12)
    labels = record_labels(_record(rows, ()), "state")
    ids = np.where(labels >= 0, labels, 100 + np.arange(len(labels)) % 20)
    record = _record(rows, [Book(HOOK, 0, 120, ids[:, None])])
    known = codes_of_classes(record, codebooks, "state")
    scene = draw_scene(machine, "state", n_rows=50, n_positions=16, seed=1)

    def run():
        return intervene(model, codebooks, record, scene, known, hooks=[HOOK], where="layer 0", n_controls=9, seed=0)

    found = run()
    assert found.jsd == pytest.approx(0, abs=1e-5)
    assert found.valid_with == pytest.approx(1, abs=1e-5)
    assert found.valid_without < 0.9
    assert min(found.controls) > 0.5
    assert len(set(found.controls)) == 9
    assert found.p == 0.1
    # A few rows at a time find the same.
    monkeypatch.setattr(tokfsm_scores, "FORWARD_TOKENS", 300)
    again = run()
    assert again.jsd == pytest.approx(found.jsd, abs=1e-6)
    assert again.controls == pytest.approx(found.controls, rel=1e-5)


def test_scores_of_a_few_rows_at_a_time_are_those_of_all_at_once(machine, model, monkeypatch):
    def scores():
        found = score_model(model, machine, n_rows=40, seed=0, n_positions=12)
        return found.loss_nats, found.accuracy, found.state_accuracy, found.valid

    rows = _walks(machine, 40)
    whole, states = scores(), next_states(model, rows)
    sizes, forward = [], model.hf.forward

    def noted(ids, **more):
        sizes.append(ids.numel())
        return forward(ids, **more)

    monkeypatch.setattr(model.hf, "forward", noted)
    monkeypatch.setattr(tokfsm_scores, "FORWARD_TOKENS", 300)
    assert scores() == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(next_states(model, rows), states)
    assert len(sizes) > 20
    assert max(sizes) <= 300


def _planted(machine, sites):
    """At heads a code for each state, at the MLP one for each pair; elsewhere one that means nothing."""
    rows = _walks(machine, 3000, 8)
    bare = _record(rows, ())
    state, pair = record_labels(bare, "state"), record_labels(bare, "pair")
    books = {
        Z: Book(Z, 0, 101, np.where(state >= 0, state, 100)[:, None]),
        MLP: Book(MLP, 0, 1001, np.where(pair >= 0, pair, 1000)[:, None]),
    }
    return _record(rows, [books[site] for site in sites]), state, pair


def test_precision_is_told_by_site_for_states_and_pairs(machine):
    record, state, pair = _planted(machine, (Z, MLP))
    told = []
    # A neuron that is always the same is as precise as a guess.
    found = detector_precisions(record, {"n": np.zeros((len(record), 1))}, on_progress=lambda *x: told.append(x))
    by = {(one.kind, one.site): one for one in found}
    assert [*by] == [(kind, site) for kind in ("state", "pair") for site in ("attn + mlp", "attn", "mlp")]
    assert told == [("precision", i, 6) for i in range(7)]
    for key in [("state", "attn + mlp"), ("state", "attn"), ("pair", "attn + mlp"), ("pair", "mlp")]:
        assert (by[key].codes, by[key].recall) == (1.0, 1.0)
    judge = record.document % 2 == 1
    guess = (state[judge] >= 0).mean() / 100
    assert by["state", "attn"].neurons == pytest.approx(guess)
    assert by["state", "attn"].n_classes == 100
    # At the MLP one code stands at every token that completes no pair, so at every state.
    assert by["state", "mlp"].codes == pytest.approx((state[judge] >= 0).sum() / (pair[judge] < 0).sum() / 100)
    # Pairs of too few tokens where codes are chosen are left out.
    enough = (np.bincount(pair[~judge & (pair >= 0)], minlength=1000) >= 10).sum()
    assert [by["pair", site].n_classes for site in ("attn + mlp", "attn", "mlp")] == [enough] * 3
    assert 0 < enough < 686
    # Heads have one code at every token that completes no state, so at every pair.
    assert by["pair", "attn"].codes < 0.01


def test_one_site_is_told_once(machine):
    record, *_ = _planted(machine, (Z,))
    found = detector_precisions(record, {"n": np.zeros((len(record), 1))})
    assert [(one.kind, one.site) for one in found] == [("state", "attn"), ("pair", "attn")]
