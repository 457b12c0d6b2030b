"""What codes are about, held to records in which that is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.codebooks.detection import code_detections, detection_auc, neuron_detections, rank_auc
from interp.codebooks.insertion import Insertion, new_codebooks, site_hooks
from interp.codebooks.inspection import (
    book_facts,
    co_use,
    code_facts,
    contingency,
    entropy_bits,
    raised_tokens,
    transition_matrix,
    transitions,
)
from interp.codebooks.names import CodeName
from interp.codebooks.precision import best_codes, best_codes_of, mean_precision
from interp.codebooks.record import Book, CodeRecord
from interp.codebooks.search import label_tokens, matching_tokens, search_codes, token_matches
from interp.errors import ArtifactError, ConfigError, DataError
from tests.families import tiny_model

HOOK = "blocks.0.attn.hook_z"
TEXTS = [" a", " b", " cat", "ch", " dog", " e", " f", " g"]


def _record(n=4000, *, seed=0, extra=()):
    """Words drawn at random in rows of 20, a document each; code 1 of group 0 is on for token 4, else code 0 or 2."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(0, len(TEXTS), n)
    row = np.arange(n) // 20
    following = np.where(np.arange(n) % 20 == 19, -1, np.roll(tokens, -1))
    noisy = np.where(draw.random(n) < 0.1, 1, np.where(tokens == 4, 1, draw.integers(0, 2, n) * 2))
    copied = np.where(tokens == 4, 5, tokens % 3)
    books = (Book(HOOK, 0, 4, noisy[:, None]), Book(HOOK, 1, 8, copied[:, None]), *extra)
    return CodeRecord(tokens, following, row, np.arange(n) % 20, row, books)


def test_facts_of_a_code_are_counts():
    record = _record()
    facts = code_facts(record, CodeName(HOOK, 1, 5), raises=(3,), n_contexts=4)
    here = record.token_ids == 4
    assert facts.count == here.sum()
    assert facts.share == pytest.approx(here.mean())
    assert facts.token_entropy_bits == 0
    assert [(one.token_id, one.share) for one in facts.fires_on] == [(4, 1.0)]
    assert facts.fires_on[0].lift == pytest.approx(1 / here.mean())
    following = record.next_ids[here & (record.next_ids >= 0)]
    first = facts.followed_by[0]
    assert first.share == pytest.approx(np.bincount(following).max() / len(following))
    for context in facts.contexts:
        assert context.token_ids[context.peak] == 4
        assert [token == 4 for token in context.token_ids] == list(context.active)
        assert len(context.token_ids) <= 20
    assert len({context.document for context in facts.contexts}) == 4


def test_a_code_that_was_never_active_has_empty_facts():
    facts = code_facts(_record(), CodeName(HOOK, 1, 7), n_contexts=3)
    assert (facts.count, facts.fires_on, facts.contexts) == (0, (), ())


def test_entropy_is_that_of_the_frequencies():
    assert entropy_bits(np.array([5, 5, 5, 5, 0])) == pytest.approx(2.0)
    assert entropy_bits(np.array([7])) == 0
    facts = book_facts(Book(HOOK, 0, 6, np.array([[0], [1], [0], [1]])))
    assert (facts.n_active, facts.entropy_bits, facts.perplexity) == (2, 1.0, 2.0)
    assert facts.dead_share == pytest.approx(4 / 6)


def test_contingency_counts_codes_by_class():
    book = Book(HOOK, 0, 4, np.array([[0, 1], [1, 2], [0, 3], [2, 3]]))
    table = contingency(book, np.array([0, 0, 1, -1]), 2)
    assert table.tolist() == [[1, 1], [2, 0], [1, 0], [0, 1]]


def test_codes_that_follow_and_go_together_are_found():
    # 0 1 2 0 1 2 …: each code leads to the next one, never across rows.
    ids = np.tile([0, 1, 2], 40)
    row = np.arange(120) // 30
    twin = Book(HOOK, 1, 9, (ids[:, None] + 3))
    record = CodeRecord(ids, ids, row, np.arange(120) % 30, row, (Book(HOOK, 0, 3, ids[:, None]), twin))
    pairs = {(pair.first, pair.second): pair for pair in transitions(record, record.books[0])}
    assert set(pairs) == {("0.attn.0.0", "0.attn.0.1"), ("0.attn.0.1", "0.attn.0.2"), ("0.attn.0.2", "0.attn.0.0")}
    assert sum(pair.count for pair in pairs.values()) == 4 * 29
    assert pairs["0.attn.0.0", "0.attn.0.1"].lift == pytest.approx(40 * 116 / (40 * 40), rel=0.05)
    np.testing.assert_allclose(transition_matrix(record, record.books[0], (0, 1, 2)), np.roll(np.eye(3), 1, axis=1))
    together = co_use(record, *record.books)
    assert [(pair.first, pair.second, pair.count) for pair in together] == [
        ("0.attn.0.0", "0.attn.1.3", 40), ("0.attn.0.1", "0.attn.1.4", 40), ("0.attn.0.2", "0.attn.1.5", 40),
    ]  # fmt: skip


def test_a_code_that_stays_is_no_change_and_chance_does_not_make_one():
    # 0 1 2 0 1 2 …, of which nearly half are a code 3 that is frequent and follows nothing; then 4 for a long time.
    draw = np.random.default_rng(0)
    ids = np.tile([0, 1, 2], 400)
    ids = np.concatenate([np.where(draw.random(len(ids)) < 0.45, 3, ids), np.full(900, 4)])
    zero = np.zeros(len(ids), dtype=np.int64)
    record = CodeRecord(ids, ids, zero, np.arange(len(ids)), zero, (Book(HOOK, 0, 5, ids[:, None]),))
    found = transitions(record, record.books[0])
    assert {(pair.first[-1], pair.second[-1]) for pair in found[:3]} == {("0", "1"), ("1", "2"), ("2", "0")}
    assert all(pair.first != pair.second and pair.lift > 1 for pair in found)
    weights = [pair.count * math.log(pair.lift) for pair in found]
    assert weights == sorted(weights, reverse=True)


def test_codes_of_one_codebook_that_are_drawn_at_random_go_together_as_by_chance():
    draw = np.random.default_rng(0)
    ids = np.argsort(draw.random((20_000, 10)), axis=1)[:, :2]
    zero = np.zeros(len(ids), dtype=np.int64)
    book = Book(HOOK, 0, 10, ids)
    found = co_use(CodeRecord(zero, zero, zero, zero, zero, (book,)), book, book, n=45)
    # Two codes of a token differ, so that of ten each pair is 10/9 as frequent as of independent draws.
    assert len(found) == 45
    np.testing.assert_allclose([pair.lift for pair in found], 10 / 9, rtol=0.15)
    assert sum(pair.count for pair in found) == 20_000


def test_a_class_that_the_judging_half_lacks_is_not_measured():
    record = _record()
    labels = np.where((record.token_ids == 4) & (record.document % 2 == 0), 0, -1)
    acts = {"m": np.random.default_rng(1).random((len(record), 3))}
    (found,) = best_codes(record, labels, ["dog"], acts)
    for one in (found.code, found.neuron):
        assert (one.precision, one.recall, one.n_positives) == (None, None, 0)


def test_several_labellings_in_one_walk_are_judged_as_one_by_one():
    record = _record()
    draw = np.random.default_rng(8)
    acts = {
        name: draw.random((len(record), 4)) + (record.token_ids == 4)[:, None] * x for name, x in (("a", 0.1), ("b", 1))
    }
    tasks = [(np.where(record.token_ids == token, 0, -1), [str(token)]) for token in (4, 2)]
    tasks.append((record.token_ids % 3, ["0", "1", "2"]))
    walks = []

    def walk():
        walks.append(1)
        yield from acts.items()

    together = best_codes_of(record, tasks, walk(), least_firings=10)
    alone = [best_codes(record, labels, names, acts, least_firings=10) for labels, names in tasks]
    assert together == tuple(one for found in alone for one in found)
    assert len(walks) == 1
    assert together[0].neuron.unit.startswith("b ")


def test_the_most_precise_code_wins_and_is_judged_elsewhere():
    record = _record()
    labels = np.where(record.token_ids == 4, 0, -1)
    judge = record.document % 2 == 1
    perfect = (record.token_ids == 4).astype(np.float64) + 1e-3 * np.random.default_rng(1).random(len(record))
    noise = np.random.default_rng(2).random((len(record), 5))
    (found,) = best_codes(record, labels, ["dog"], {"m": np.column_stack([noise, -perfect])})
    assert found.code.unit == "0.attn.1.5"
    assert (found.code.precision, found.code.recall) == (1.0, 1.0)
    assert found.code.n_positives == int((labels[judge] == 0).sum())
    assert found.neuron.unit == "m -5"
    assert found.neuron.precision == pytest.approx(1.0)
    (poor,) = best_codes(record, labels, ["dog"], {"m": noise})
    base = float((labels[judge] == 0).mean())
    assert poor.neuron.precision == pytest.approx(base, abs=0.05)
    assert mean_precision([found, poor])[0] == 1.0


def test_neurons_are_cut_at_the_recall_of_the_code():
    record = _record(40_000)
    labels = np.where(record.token_ids == 4, 0, -1)
    # Half of the class has a code of its own, so that the code's recall is one half.
    half = (record.token_ids == 4) & (np.random.default_rng(5).random(40_000) < 0.5)
    book = Book(HOOK, 2, 2, half[:, None].astype(int))
    record = CodeRecord(record.token_ids, record.next_ids, record.document, record.position, record.row, (book,))
    acts = np.random.default_rng(6).random((40_000, 1)) + (record.token_ids == 4)[:, None]
    (found,) = best_codes(record, labels, ["dog"], {"m": acts})
    assert found.code.recall == pytest.approx(0.5, abs=0.05)
    assert found.neuron.recall == pytest.approx(found.code.recall, abs=0.06)
    assert found.neuron.precision == 1.0


def test_a_class_without_a_code_has_no_detector():
    record = _record(400)
    (found,) = best_codes(record, np.full(400, -1), ["nothing"], {"m": np.zeros((400, 1))})
    assert (found.code, found.neuron) == (None, None)
    assert math.isnan(mean_precision([found])[0])


def test_patterns_end_where_their_last_token_is_read():
    tokens = np.array([2, 3, 0, 4, 2, 3])
    row = np.array([0, 0, 0, 0, 1, 1])
    record = CodeRecord(tokens, tokens, row, np.array([0, 1, 2, 3, 0, 1]), row, ())
    assert matching_tokens(record, "catch", TEXTS).tolist() == [False, True, False, False, False, True]
    assert matching_tokens(record, " (dog|a)", TEXTS).tolist() == [False, False, True, True, False, False]
    # Rows do not run into each other.
    assert not matching_tokens(record, "dog cat", TEXTS).any()
    with pytest.raises(ConfigError, match="regular expression"):
        matching_tokens(record, "(", TEXTS)
    assert token_matches(record, "dog", TEXTS).tolist() == [False, False, False, True, False, False]
    with pytest.raises(ConfigError, match="empty pattern"):
        matching_tokens(record, "", TEXTS)
    with pytest.raises(ConfigError, match="nothing but space"):
        token_matches(record, " ", TEXTS)
    with pytest.raises(ConfigError, match="not one token"):
        token_matches(record, "zebra", TEXTS)
    labels, names = label_tokens(record, {"animals": ["Cat", "dog"], "letters": ["a"]}, TEXTS)
    assert labels.tolist() == [0, -1, 1, 0, 0, -1]
    assert names == ("animals", "letters")


def test_search_puts_the_code_of_the_wanted_tokens_first():
    record = _record()
    found = search_codes(record, record.token_ids == 4)
    assert (found[0].name, found[0].precision, found[0].recall) == ("0.attn.1.5", 1.0, 1.0)
    assert found[1].name == "0.attn.0.1"
    assert 0.4 < found[1].precision < 0.75
    with pytest.raises(DataError, match="matching tokens"):
        search_codes(record, np.zeros(len(record), dtype=bool))


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = _record(200)
    record.save(tmp_path / "codes" / "record.safetensors")
    again = CodeRecord.load(tmp_path / "codes" / "record.safetensors")
    for name in ("token_ids", "next_ids", "document", "position", "row"):
        np.testing.assert_array_equal(getattr(record, name), getattr(again, name))
    assert [(book.name, book.n_codes) for book in again.books] == [(book.name, book.n_codes) for book in record.books]
    np.testing.assert_array_equal(again.books[1].ids, record.books[1].ids)


def test_a_record_says_of_which_weights_it_is(tmp_path):
    path = tmp_path / "record.safetensors"
    replace(_record(200), source={"model": "abc", "dataset": "stories", "split": "heldout"}).save(path)
    again = CodeRecord.load(path)
    assert again.source["dataset"] == "stories"
    again.check_model("abc", path)
    with pytest.raises(ArtifactError, match="other weights"):
        again.check_model("abd", path)
    with pytest.raises(ArtifactError, match="unknown"):
        _record(20).check_model("abd", path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda head: [head], "no record of codes"),
        (lambda head: {k: v for k, v in head.items() if k != "sha256"}, "damaged"),
        (lambda head: head | {"books": 3}, "damaged"),
        (lambda head: head | {"books": [{"hook": "x"}]}, "damaged"),
        (lambda head: head | {"schema_version": 7}, "no record of codes of version"),
    ],
)
def test_a_damaged_record_is_told(tmp_path, change, says):
    path = tmp_path / "record.safetensors"
    _record(200).save(path)
    head = json.loads((tmp_path / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps(change(head)))
    with pytest.raises(ArtifactError, match=says):
        CodeRecord.load(path)


def test_rank_auc_is_the_share_of_pairs_in_order():
    draw = np.random.default_rng(0)
    score, positive = draw.integers(0, 5, 60).astype(float), draw.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert rank_auc(score, positive) == pytest.approx(np.mean(pairs))
    # Without a positive or a negative there is no pair.
    for same in (True, False):
        assert math.isnan(rank_auc(score, np.full(60, same)))


def test_detection_knows_a_token_code_from_a_random_one():
    record = _record(8000)
    by_token = record.token_ids == 4
    at_random = np.random.default_rng(3).random(8000) < 0.12
    assert detection_auc(record, by_token, seed=0) == 1.0
    assert detection_auc(record, at_random, seed=0) == pytest.approx(0.5, abs=0.06)
    assert math.isnan(detection_auc(record, np.arange(8000) < 5, seed=0))
    drawn = code_detections(record, 30, seed=0)
    assert {one.unit for one in drawn} >= {"0.attn.1.5", "0.attn.0.1"}
    acts = {"m": np.random.default_rng(4).random((8000, 40))}
    rivals = neuron_detections(record, acts, [one.share for one in drawn], seed=0)
    for one, rival in zip(drawn, rivals, strict=True):
        assert rival.share == pytest.approx(one.share, rel=0.01)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_raised_tokens_are_those_of_the_direct_path(kind):
    model = tiny_model(kind)
    torch.manual_seed(0)
    codebooks = new_codebooks(model, site_hooks(model, ("attn", "resid"), (2,)), n_codes=5)
    hook = "blocks.2.hook_resid_post"
    unembed, norm = model.unembedding.weight, model.final_norm.weight
    codes = codebooks[hook].codes[0]
    centred = codes if kind == "llama" else codes - codes.mean(1, keepdim=True)
    expected = ((centred * norm) @ unembed.T).topk(4, dim=1).indices
    assert np.array_equal(raised_tokens(model, codebooks, hook, 0, 4), expected.numpy())
    some = raised_tokens(model, codebooks, hook, 0, 4, codes=[3, 1])
    assert np.array_equal(some, expected.numpy()[[3, 1]])
    # The last block's attention writes to the stream through W_O alone.
    head = codebooks["blocks.2.attn.hook_z"]
    whole = torch.zeros(5, head.width)
    whole[:, head.group_width : 2 * head.group_width] = head.codes[1]
    module = model.hf.get_submodule(model.hook("blocks.2.attn.hook_z").module_path)
    written = (module(whole) - module(torch.zeros(1, head.width))).detach()
    centred = written if kind == "llama" else written - written.mean(1, keepdim=True)
    expected = ((centred * norm) @ unembed.T).topk(4, dim=1).indices
    assert np.array_equal(raised_tokens(model, codebooks, "blocks.2.attn.hook_z", 1, 4), expected.numpy())


def test_a_record_holds_what_the_insertion_chose():
    from interp.codebooks.record import record_codes
    from interp.token_rows import TokenBatch
    from tests.families import tiny_tokens

    model, ids = tiny_model("gpt2"), tiny_tokens(2, 6)
    codebooks = new_codebooks(model, site_hooks(model, ("attn",), (1,)), n_codes=9, k=2)
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[:, 0] = False
    places = torch.arange(6).expand(2, 6).contiguous()
    batch = TokenBatch(ids, keep, torch.ones_like(ids), places, torch.tensor([[3] * 6, [8] * 6]))

    record = record_codes(model, codebooks, [batch], n_tokens=7)
    with Insertion(model, codebooks) as insertion:
        model.hf(ids)
        expected = insertion.seen["blocks.1.attn.hook_z"].ids[keep][:7]
    assert record.token_ids.tolist() == ids[keep][:7].tolist()
    assert record.document.tolist() == [3] * 5 + [8] * 2
    assert record.next_ids[:5].tolist() == [*ids[0, 2:].tolist(), -1]
    for group in range(2):
        np.testing.assert_array_equal(record.books[group].ids, expected[:, group])
