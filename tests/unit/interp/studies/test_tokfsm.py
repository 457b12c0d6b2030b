"""The machine of TokFSM against its oracles, and scores and interventions against machines that are known."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from interp.codebooks.insertion import new_codebooks, site_hooks
from interp.codebooks.tokfsm_results import ArmResult, MachineScores, TokFSMStudy
from interp.errors import ConfigError
from interp.runs import RunFolder
from interp.studies.study_folder import keep_settings, training_seconds
from interp.studies.tokfsm import TokFSMConfig, run_tokfsm
from interp.studies.tokfsm_codes import class_labels
from interp.studies.tokfsm_interventions import draw_scene, expected_digits, next_digits
from interp.studies.tokfsm_machine import BOS, Machine, MachineBatches, states_of
from interp.studies.tokfsm_model import new_model
from interp.studies.tokfsm_scores import next_states, score_model


@pytest.fixture(scope="module")
def machine():
    return Machine.draw()


@pytest.fixture(scope="module")
def model():
    return new_model(n_layers=1, d_model=16, n_heads=2, context_size=12, seed=0)


def test_the_machine_has_686_pairs(machine):
    assert machine.n_pairs == 686


def test_the_best_loss_and_accuracy_are_those_of_the_oracle(machine):
    loss, accuracy = machine.bayes(128)
    assert round(loss, 4) == 1.1748
    assert round(100 * accuracy, 2) == 46.38
    assert machine.bayes(32)[0] == pytest.approx(1.248, abs=5e-4)


def test_the_best_is_what_knowing_the_machine_gives_on_its_walks(machine):
    rows = machine.rows(4000, 20, torch.Generator().manual_seed(0)).numpy()
    joint = machine.transitions.reshape(100, 10, 10)
    nats, right = [np.full((4000, 2), np.log(10))], [np.full((4000, 2), 0.1)]
    for at in range(3, 19, 2):
        state = rows[:, at - 2] * 10 + rows[:, at - 1]
        for given, digit in ((joint[state].sum(2), rows[:, at]), (joint[state, rows[:, at]], rows[:, at + 1])):
            p = given / given.sum(1, keepdims=True)
            nats.append(-np.log(p[np.arange(4000), digit])[:, None])
            right.append((p.argmax(1) == digit)[:, None])
    loss, accuracy = machine.bayes(19)
    assert np.concatenate(nats, axis=1).mean() == pytest.approx(loss, abs=0.01)
    assert np.concatenate(right, axis=1).mean() == pytest.approx(accuracy, abs=0.01)


def test_successors_are_drawn_in_sequence(machine):
    generator = np.random.default_rng(42)
    for state in range(3):
        assert machine.successors[state].tolist() == generator.choice(100, 10, replace=False).tolist()
    assert (machine.transitions > 0).sum(1).tolist() == [10] * 100


def test_walks_follow_the_machine(machine):
    rows = machine.rows(50, 13, torch.Generator().manual_seed(1))
    assert (rows[:, 0] == BOS).all()
    states = states_of(rows)
    assert (states[:, 1::2] == -1).all()
    walk = states[:, 2::2].numpy()
    assert walk.shape == (50, 6)
    assert all(b in machine.successors[a] for row in walk for a, b in pairwise(row))
    # An even length ends with half a state.
    assert states_of(machine.rows(5, 12, torch.Generator())).shape == (5, 12)


def test_batches_go_on_from_a_cursor(machine):
    first = MachineBatches(machine, n_rows=4, n_positions=8, seed=3)
    next(first)
    again = MachineBatches(machine, n_rows=4, n_positions=8, seed=3)
    again.seek(first.cursor())
    batch = next(first)
    assert torch.equal(batch.token_ids, next(again).token_ids)
    assert torch.equal(batch.targets[:, :-1], batch.token_ids[:, 1:])
    assert (batch.targets[:, -1] == -100).all()


def test_next_states_are_a_distribution_over_two_digits(machine, model):
    rows = machine.rows(3, 6, torch.Generator().manual_seed(2))[:, :5]
    found = next_states(model, rows)
    assert found.shape == (3, 100)
    with torch.no_grad():
        one = model.hf(torch.cat([rows, torch.full((3, 1), 4)], dim=1)).logits.softmax(2)
    torch.testing.assert_close(found[:, 47], one[:, -2, 4] * one[:, -1, 7])


class _Knows(GPTNeoXForCausalLM):
    """Knows the machine: gives the true distribution of the next digit, and nonsense where nothing is ever learnt."""

    machine = Machine.draw()
    n_positions = 16

    def forward(self, rows, use_cache=False):
        joint = torch.from_numpy(self.machine.transitions.reshape(100, 10, 10)).float()
        p = torch.full((*rows.shape, 11), 1e-12)
        for at in range(rows.shape[1]):
            if at % 2 == 0 and at > 0:
                p[:, at, :10] = joint[rows[:, at - 1] * 10 + rows[:, at]].sum(2)
            elif at % 2 and at > 2:
                p[:, at, :10] = joint[rows[:, at - 2] * 10 + rows[:, at - 1], rows[:, at]]
            else:
                p[:, at, :10] = 0.1
        # The last position of a row has no target in training.
        p[:, self.n_positions - 1 :] = torch.eye(11)[BOS]
        logits = (p + 1e-12).log()
        return type("Out", (), {"logits": logits - logits.logsumexp(2, keepdim=True)})


def test_a_model_that_knows_the_machine_has_full_marks(machine, model):
    knowing = replace(model, hf=_Knows(model.hf.config))
    scores = score_model(knowing, machine, n_rows=3000, seed=0, n_positions=16)
    assert scores.state_accuracy == 1.0
    assert scores.valid == pytest.approx(1.0, abs=1e-4)
    assert scores.loss_nats == pytest.approx(machine.bayes(16)[0], abs=0.01)
    assert scores.accuracy == pytest.approx(machine.bayes(16)[1], abs=0.01)


@pytest.mark.parametrize("kind", ["state", "pair"])
def test_nothing_is_asked_where_nothing_was_learnt(machine, kind):
    for n_positions in (8, 11, 12, 16, 17, 32):
        rows = draw_scene(machine, kind, n_rows=2, n_positions=n_positions, seed=0).rows
        assert rows.shape[1] - 1 < n_positions - 1


def test_scenes_ask_for_what_can_follow_another_state(machine):
    scene = draw_scene(machine, "state", n_rows=40, n_positions=12, seed=0)
    own = class_labels(scene.rows, "state")[:, -1]
    assert (scene.target != own).all()
    np.testing.assert_allclose(scene.wanted, machine.first_digit[scene.target], rtol=1e-6)
    pairs = draw_scene(machine, "pair", n_rows=40, n_positions=12, seed=0)
    # The digit that was read stays; only the state before it is another.
    assert (pairs.target % 10 == pairs.rows[:, -1]).all()
    assert (expected_digits(machine, "pair")[pairs.target].sum(1) > 0.999).all()
    assert torch.equal(class_labels(pairs.rows, "pair")[:, -1] // 10, class_labels(pairs.rows, "state")[:, -2])


def test_without_a_choice_the_next_digit_is_the_models_own(machine, model):
    codebooks = new_codebooks(model, site_hooks(model, ("attn",)), n_codes=30)
    rows = machine.rows(4, 9, torch.Generator().manual_seed(0))
    plain = next_digits(model, codebooks, rows)
    same = next_digits(model, codebooks, rows, {hook: (lambda ids: ids) for hook in codebooks.hooks})
    assert torch.equal(plain, same)
    put = next_digits(model, codebooks, rows, {hook: (lambda ids: ids * 0) for hook in codebooks.hooks})
    assert not torch.allclose(plain, put)


def test_a_tiny_study_is_written_read_and_gone_on_with(tmp_path):
    config = TokFSMConfig(size="tiny", out=tmp_path / "study", texts=200)
    study = run_tokfsm(config)
    study.save(tmp_path / "tokfsm.json")
    again = TokFSMStudy.load(tmp_path / "tokfsm.json")
    assert again.rows() == study.rows()
    assert again.to_json() == study.to_json()
    assert [one.kind for one in study.arms[1].interventions] == ["state", "state", "pair", "pair"]
    assert study.n_pairs == 686
    # What is finished is kept: the same scores without training.
    repeated = run_tokfsm(config)
    assert [arm.scores for arm in repeated.arms] == [arm.scores for arm in study.arms]
    assert [arm.seconds for arm in repeated.arms] == [arm.seconds for arm in study.arms]
    assert min(arm.seconds for arm in study.arms) > 0.01
    assert {one.site for one in study.arms[1].precisions} == {"attn"}
    assert "no codebooks" in study._repr_html_()
    # What is refused changes nothing.
    before = _contents(config.out)
    for other in ({"seed": 1}, {"texts": 201}, {"size": "cpu"}):
        with pytest.raises(ConfigError, match=f"was begun with {next(iter(other))} = "):
            run_tokfsm(config.model_copy(update=other))
    assert _contents(config.out) == before


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_settings_are_kept_and_others_refused(tmp_path):
    config, out = TokFSMConfig(out=tmp_path), tmp_path / "study"
    text = out / "text.jsonl"
    keep_settings(config, out / "study.yaml", {text: "one"})
    written = _contents(out)
    assert written[text] == b"one"
    # The folder may be reached by another path.
    keep_settings(config.model_copy(update={"out": tmp_path / "x"}), out / "study.yaml", {text: "one"})
    with pytest.raises(ConfigError, match=r"study\.yaml: was begun with seed = 0; got 1; give another --out"):
        keep_settings(config.model_copy(update={"seed": 1}), out / "study.yaml", {text: "two"})
    keep_settings(config.model_copy(update={"seed": 1}), out / "study.yaml", {}, may_differ=("out", "seed"))
    with pytest.raises(ConfigError, match=r"text\.jsonl: is not what these settings write"):
        keep_settings(config, out / "study.yaml", {text: "two"})
    assert _contents(out) == written
    # Folders that are older than the file of settings.
    (out / "study.yaml").unlink()
    with pytest.raises(ConfigError, match=r"text\.jsonl: is not what these settings write"):
        keep_settings(config, out / "study.yaml", {text: "two"})
    assert _contents(out) == {text: b"one"}
    keep_settings(config, out / "study.yaml", {text: "one"})
    assert _contents(out) == written


def test_seconds_are_those_of_all_steps(tmp_path):
    rows = [{"step": 1, "seconds_harvest": 0.5, "seconds_update": 2, "seconds_text": 9}, {"seconds_shuffle": 0.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert training_seconds(RunFolder(tmp_path)) == 2.75


def test_tolerances_are_asked_only_where_they_were_published():
    good, poor = MachineScores(1.25, 0.44, 1.0, 0.99), MachineScores(1.33, 0.43, 0.98, 0.94)
    base = ArmResult("no codebooks", (1.179, 46.36, 96.77), good, 0.0)
    near, costly = (1.18, 46.33, 96.39), (1.269, 45.27, 63.65)
    arms = [ArmResult("arm", told, scores, 0.0) for told in (near, costly, None) for scores in (good, poor)]
    study = TokFSMStudy("cpu", 686, 1.248, 0.44, (1.1748, 0.4638), (base, *arms))
    assert [study.accepted(arm) for arm in arms] == [True, False, None, None, True, False]
    assert [row[-1] for row in study.rows()] == ["–", "yes", "no", "–", "–", "yes", "no"]


def test_codes_are_judged_on_walks_that_they_did_not_begin_at(tmp_path, monkeypatch):
    from interp.studies import tokfsm

    began, size = [], replace(tokfsm.SIZES["tiny"], initial="kmeans")
    monkeypatch.setitem(tokfsm.SIZES, "tiny", size)
    start = tokfsm.prepare_codebooks

    def seen(config, model, batches):
        rows = list(batches)
        began.extend(tuple(row) for batch in rows for row in batch.token_ids.tolist())
        return start(config, model, iter(rows))

    monkeypatch.setattr(tokfsm, "prepare_codebooks", seen)
    tokfsm.run_tokfsm(tokfsm.TokFSMConfig(size="tiny", out=tmp_path / "study", texts=120))
    looked = (tmp_path / "study" / "text.jsonl").read_text().splitlines()
    judged = {tuple(map(int, json.loads(line)["text"])) for line in looked}
    assert len(began) >= 120
    # Walks of 11 digits: two draws are the same by chance once in some ten million.
    assert not judged & {row[1:] for row in began}
