"""Codes put in while a model writes."""

import json
import math

import numpy as np
import pytest
import torch

from interp.codebooks.activation import Activation
from interp.codebooks.divergence import jensen_shannon
from interp.codebooks.insertion import Insertion, new_codebooks, site_hooks
from interp.codebooks.names import CodeName
from interp.codebooks.random_codes import random_sets, relative_frequency
from interp.codebooks.record import Book, CodeRecord
from interp.codebooks.steered import COLUMNS, CodeSteering, SteeredOutcome
from interp.codebooks.steering import steer_codes
from interp.errors import ArtifactError, ConfigError, DataError
from interp.prompts import encode_prompts
from tests.families import tiny_model, tiny_tokens

HOOK = "blocks.1.attn.hook_z"


@pytest.fixture(scope="module")
def scene():
    model = tiny_model("llama")
    torch.manual_seed(2)
    codebooks = new_codebooks(model, site_hooks(model, ("attn",), (1,)), n_codes=40, k=3)
    draw = np.random.default_rng(0)
    zero = np.zeros(500, dtype=np.int64)
    # Code j is about j times as frequent as code 1.
    ids = draw.choice(40, size=(500, 3), p=np.arange(40) / np.arange(40).sum())
    books = tuple(Book(HOOK, group, 40, ids) for group in range(4))
    return model, codebooks, CodeRecord(zero, zero, zero, zero, zero, books)


def test_divergence_is_symmetric_bounded_and_zero_for_equals():
    p, q = torch.randn(5, 7).softmax(1), torch.randn(5, 7).softmax(1)
    torch.testing.assert_close(jensen_shannon(p, q), jensen_shannon(q, p))
    assert jensen_shannon(p, p).abs().max() < 1e-6
    apart = jensen_shannon(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert float(apart) == pytest.approx(np.log(2))
    middle = (p + q) / 2
    kl = (p * (p / middle).log()).sum(1) / 2 + (q * (q / middle).log()).sum(1) / 2
    torch.testing.assert_close(jensen_shannon(p, q), kl)


@pytest.mark.parametrize(
    ("where", "places"),
    [("all", [0, 1, 2, 3, 4]), ("prompt", [0, 1, 2]), ("generated", [3, 4]), ("last", [2]), ((1, 4), [1, 4])],
)
def test_codes_are_put_in_at_the_chosen_tokens_across_passes(scene, where, places):
    _, codebooks, _ = scene
    edit = Activation([CodeName(HOOK, 2, 7)], codebooks, where, 3).edits()[HOOK]
    ids = torch.arange(3).expand(1, 5, 4, 3) + 10
    # As in generation: the prompt in one pass, then a token at a time.
    out = torch.cat([edit(ids[:, :3]), edit(ids[:, 3:4]), edit(ids[:, 4:])], dim=1)
    changed = (out == 7).any(3)[0]
    assert changed[:, 2].nonzero()[:, 0].tolist() == places
    assert not changed[:, [0, 1, 3]].any()


def test_the_least_similar_code_gives_way_and_k_stay_active(scene):
    _, codebooks, _ = scene
    edit = Activation([CodeName(HOOK, 0, 7), CodeName(HOOK, 0, 11)], codebooks, "all", 1).edits()[HOOK]
    ids = torch.tensor([[10, 11, 12], [1, 2, 3], [4, 7, 11]]).view(1, 3, 1, 3).expand(1, 3, 4, 3)
    found = edit(ids)[0, :, 0].tolist()
    assert [sorted(row) for row in found] == [[7, 10, 11], [1, 7, 11], [4, 7, 11]]
    with pytest.raises(ConfigError, match="got 4 codes of one codebook"):
        Activation([CodeName(HOOK, 0, c) for c in range(4)], codebooks, "all", 1)


def test_activating_what_is_active_changes_nothing(scene):
    model, codebooks, _ = scene
    ids = tiny_tokens(1)
    with Insertion(model, codebooks) as insertion:
        expected = model.hf(ids).logits
        own = insertion.seen[HOOK].ids[0, 4, 1]
    codes = [CodeName(HOOK, 1, int(code)) for code in own]
    with Insertion(model, codebooks, choose=Activation(codes, codebooks, (4,), 1).edits()):
        torch.testing.assert_close(model.hf(ids).logits, expected)


def _counted(n, hook=HOOK):
    """A codebook in which code j was active j times, and one of five codes."""
    ids = np.repeat(np.arange(n), np.arange(n))[:, None]
    zero = np.zeros(len(ids), dtype=np.int64)
    return CodeRecord(zero, zero, zero, zero, zero, (Book(hook, 0, 5, ids * 0), Book(hook, 1, n, ids)))


def test_random_codes_are_others_of_the_same_codebook_and_as_frequent():
    codes = [CodeName(HOOK, 1, 200), CodeName(HOOK, 1, 201)]
    record = _counted(300)
    for drawn in random_sets(record, codes, 20, np.random.default_rng(0)):
        assert all((one.hook, one.group) == (HOOK, 1) for one in drawn)
        assert len({one.code for one in drawn} | {200, 201}) == 4
        assert all(abs(one.code - 200) <= 14 for one in drawn)
    with pytest.raises(ConfigError, match="none is left"):
        random_sets(record, [CodeName(HOOK, 0, code) for code in range(5)], 1, np.random.default_rng(0))


def test_every_random_set_is_another():
    generator = np.random.default_rng(0)
    one = random_sets(_counted(300), [CodeName(HOOK, 1, 150)], 100, generator)
    assert len(set(one)) == len(one) == 100
    # The hundred that are nearest in frequency, each of them once.
    assert max(abs(drawn[0].code - 150) for drawn in one) <= 60
    two = random_sets(_counted(300), [CodeName(HOOK, 1, 150), CodeName(HOOK, 1, 90)], 100, generator)
    assert len({frozenset(drawn) for drawn in two}) == 100


def test_random_codes_stay_as_near_in_frequency_as_enough_sets_allow():
    record, two = _counted(300), [CodeName(HOOK, 1, 150), CodeName(HOOK, 1, 250)]
    found = random_sets(record, two, 100, np.random.default_rng(0))
    # 21 codes make 210 pairs: a hundred that differ, and as many again for those that repeat.
    assert len(found) == 100
    for pair, code in zip(zip(*found, strict=True), (150, 250), strict=True):
        assert max(abs(drawn.code - code) for drawn in pair) <= 13
    # Twenty codes make but 190 sets of eighteen, and none of thirty.
    for n_codes in (18, 30):
        many = [CodeName(HOOK, 1, code) for code in range(200, 200 + n_codes)]
        assert len(random_sets(record, many, 100, np.random.default_rng(0))) == 100


def test_the_frequency_of_random_codes_is_told_relative_to_that_of_the_codes():
    record, codes = _counted(300), [CodeName(HOOK, 1, 40), CodeName(HOOK, 1, 60)]
    sets = [[CodeName(HOOK, 1, code) for code in pair] for pair in ((30, 20), (70, 80), (100, 10))]
    assert relative_frequency(record, codes, sets) == pytest.approx(1.1)
    assert relative_frequency(record, codes, []) is None
    assert relative_frequency(record, [CodeName(HOOK, 1, 0)], sets) is None


def test_there_are_no_more_random_sets_than_the_codebook_holds():
    generator = np.random.default_rng(0)
    assert sorted(drawn[0].code for drawn in random_sets(_counted(9), [CodeName(HOOK, 1, 4)], 100, generator)) == [
        0, 1, 2, 3, 5, 6, 7, 8,
    ]  # fmt: skip
    codes = [CodeName(HOOK, 1, 0), CodeName(HOOK, 1, 1)]
    found = random_sets(_counted(4), codes, 100, generator)
    assert [{one.code for one in drawn} for drawn in found] == [{2, 3}]


def test_steering_tells_success_cost_and_controls(scene, tmp_path):
    model, codebooks, record = scene
    # A code whose vector is made large enough to rule the output.
    with torch.no_grad():
        kept = codebooks[HOOK].codes[0, 5].clone()
        codebooks[HOOK].codes[0, 5] = 60.0
    arguments = {"neutral": ["w5 w6 w7", "w8 w9"], "n_texts": 12, "new_tokens": 4, "n_controls": 3}
    found = steer_codes(model, codebooks, record, [CodeName(HOOK, 0, 5)], "w5 w6", "w4|w7", **arguments)
    again = steer_codes(model, codebooks, record, [CodeName(HOOK, 0, 5)], "w5 w6", "w4|w7", **arguments)
    with torch.no_grad():
        codebooks[HOOK].codes[0, 5] = kept
    assert found == again
    assert found.unsteered.jsd == 0
    assert found.steered.jsd > max(control.jsd for control in found.controls)
    assert found.steered.perplexity > found.unsteered.perplexity
    assert found.texts != found.unsteered_texts
    assert len(found.rows()) == 3
    assert found.shown()["frequency of random codes, of that of these"] == f"{found.control_frequency:.2f}"
    assert 0.5 < found.control_frequency < 2
    found.save(tmp_path / "steering.json")
    assert CodeSteering.load(tmp_path / "steering.json") == found
    as_good = sum(control.success >= found.steered.success for control in found.controls)
    assert found.p == (1 + as_good) / 4


def test_what_cannot_be_steered_is_refused(scene):
    model, codebooks, record = scene
    with pytest.raises(ConfigError, match="no codes"):
        steer_codes(model, codebooks, record, [], "w5", "w", neutral=["w5 w6"])
    for pattern, says in (("(", "regular expression"), ("", "empty pattern"), ("x*", "every text matches")):
        with pytest.raises(ConfigError, match=says):
            steer_codes(model, codebooks, record, [CodeName(HOOK, 0, 1)], "w5", pattern, neutral=["w5 w6"])
    with pytest.raises(DataError, match="fills the context"):
        steer_codes(model, codebooks, record, [CodeName(HOOK, 0, 1)], "w5 " * 23, "w", neutral=["w5 w6"])
    with pytest.raises(DataError, match="reads 24"):
        steer_codes(model, codebooks, record, [CodeName(HOOK, 0, 1)], "w5 " * 24, "w", neutral=["w5 w6"])


def test_codes_at_tokens_that_are_never_read_are_refused(scene):
    model, codebooks, record = scene
    more = {"neutral": ["w5 w6"], "n_texts": 1, "n_controls": 0}
    for where, n in (((500,), 4), ((-1,), 4), ((), 4), ("generated", 1)):
        with pytest.raises(ConfigError, match="where: got"):
            steer_codes(model, codebooks, record, [CodeName(HOOK, 0, 1)], "w5", "w", where=where, new_tokens=n, **more)
    # The prompt, and three of the four tokens that are written.
    n_prompt = len(encode_prompts(model, ["w5"]).token_ids[0])
    arguments = (model, codebooks, record, [CodeName(HOOK, 0, 1)], "w5", "w")
    steer_codes(*arguments, where=(n_prompt + 2,), new_tokens=4, **more)
    with pytest.raises(ConfigError, match=f"have 0 to {n_prompt + 2}"):
        steer_codes(*arguments, where=(n_prompt + 3,), new_tokens=4, **more)


def test_what_was_not_measured_is_not_told_as_a_figure(scene):
    model, codebooks, record = scene
    found = steer_codes(
        model, codebooks, record, [CodeName(HOOK, 0, 1)] * 2, "w5", "w", neutral=["w5 w6"], n_texts=1, new_tokens=99,
        n_controls=0,
    )  # fmt: skip
    assert found.codes == (str(CodeName(HOOK, 0, 1)),)
    assert math.isnan(found.p)
    assert (found.to_json()["p"], found.to_json()["p_toward"], found.to_json()["relative_shift"]) == (None, None, None)
    assert found.shown()["success against random codes"] == "not measured"
    assert found.rows()[0][-1] == "not measured"
    assert "not measured" in found._repr_html_()
    n_prompt = len(encode_prompts(model, ["w5"]).token_ids[0])
    assert (found.new_tokens, found.asked_tokens) == (model.context_size - n_prompt, 99)
    assert found.shown()["tokens of a text"].startswith(f"{model.context_size - n_prompt}, not 99")


def test_distance_from_a_pattern_is_one_without_intervention_and_zero_at_its_predictions(scene):
    model, codebooks, record = scene
    code = CodeName(HOOK, 0, 5)
    ids = encode_prompts(model, ["w5 w6"]).token_ids
    with (
        Insertion(model, codebooks, choose=Activation([code], codebooks, "all", ids.shape[1]).edits()),
        torch.no_grad(),
    ):
        with_code = model.hf(ids).logits.float().softmax(2)[0]
    with Insertion(model, codebooks), torch.no_grad():
        plain = model.hf(ids).logits.float().softmax(2)[0]
    target = with_code.mean(0)
    found = steer_codes(
        model, codebooks, record, [code], "w5", "w", neutral=["w5 w6"], n_texts=1, new_tokens=2, n_controls=3,
        target=target,
    )  # fmt: skip
    assert found.unsteered.toward == 1.0
    expected = (
        jensen_shannon(with_code, target.expand_as(plain)).mean()
        / jensen_shannon(plain, target.expand_as(plain)).mean()
    )
    assert found.steered.toward == pytest.approx(float(expected), rel=1e-4)
    assert found.steered.toward < 1
    nearer = sum(control.toward <= found.steered.toward for control in found.controls)
    assert found.p_toward == (1 + nearer) / 4
    assert found.relative_shift == pytest.approx(found.steered.jsd / np.mean([one.jsd for one in found.controls]))
    assert {len(row) for row in found.rows()} == {len(COLUMNS)}


def test_fewer_random_sets_than_asked_for_are_told(scene):
    _, codebooks, _ = scene
    ids = np.arange(40)[:, None]
    zero = np.zeros(40, dtype=np.int64)
    few = CodeRecord(zero, zero, zero, zero, zero, (Book(HOOK, 0, 6, ids % 6),))
    found = steer_codes(
        scene[0], codebooks, few, [CodeName(HOOK, 0, 1)], "w5", "zzz", neutral=["w5 w6"], n_texts=1, new_tokens=2,
        n_controls=9,
    )  # fmt: skip
    assert len(found.controls) == 5
    assert found.p == 1.0
    assert found.shown()["sets of random codes"] == "5 that differ, of 9 asked for"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"schema_version": 9}, "another version"), ({"controls": 3}, "damaged"), ({"codes": None}, "damaged")],
)
def test_damaged_steering_is_told(tmp_path, change, says):
    one = SteeredOutcome(0.5, 2.0, 0.0)
    held = CodeSteering(("0.attn.0.1",), "x", "all", "p", 1, one, one, ()).to_json()
    (tmp_path / "steering.json").write_text(json.dumps(held | change))
    with pytest.raises(ArtifactError, match=says):
        CodeSteering.load(tmp_path / "steering.json")
