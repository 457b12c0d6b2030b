import math

import numpy as np
import pytest
import torch

from interp.errors import ArtifactError, DataError, ShapeError
from interp.lenses.continuations import continue_rows
from interp.lenses.followers import Followers
from interp.lenses.future import FutureLens
from interp.lenses.logit import lens_hooks, logit_lens
from interp.lenses.measure import CountedArms, measure_table
from interp.lenses.scoring import means_over_documents, score
from interp.lenses.table import (
    BIGRAM,
    FIXED,
    FIXED_ALONE,
    ITSELF,
    LINEAR_HIDDEN,
    LOGIT_LENS,
    TRIGRAM,
    TUNED_LENS,
    LensTable,
)
from interp.lenses.transplant import N_CONTEXT
from interp.lenses.tuned import TunedLens
from tests.families import tiny_model, tiny_tokens


def test_precision_counts_the_true_token_among_the_k_first_and_surprisal_is_of_the_first():
    top = torch.tensor([[[3, 1, 2, 4, 5, 6, 7, 8, 9, 0]], [[-1] * 10]])
    log_p = torch.log_softmax(torch.arange(10.0), -1).expand(2, 1, 10)
    for target, within in ((3, [True, True, True]), (5, [False, True, True]), (0, [False, False, True])):
        hits = score(top, torch.full((2, 1), target), log_p)
        assert hits.within[0, 0].tolist() == within
        assert hits.within[1, 0].tolist() == [False] * 3
        assert float(hits.surprisal[0, 0]) == pytest.approx(-float(log_p[0, 0, 3]))
        assert math.isnan(float(hits.surprisal[1, 0]))


def test_means_are_over_examples_and_intervals_over_documents():
    values, documents = np.array([1.0, 1.0, 1.0, 0.0, np.nan]), np.array([0, 0, 0, 1, 1])
    (found,) = means_over_documents(values[None], documents)
    assert found.value == pytest.approx(0.75)
    # Two documents: a draw is one of them twice, or both.
    assert found.interval == (0.0, 1.0)
    assert means_over_documents(values[None, :3], documents[:3])[0].interval is None
    assert math.isnan(means_over_documents(values[None, 4:], documents[4:])[0].value)
    several = means_over_documents(np.stack([values[:4], 2 * values[:4]]), documents[:4])
    assert [figure.value for figure in several] == pytest.approx([0.75, 1.5])


DOCUMENTS = [[0, 5, 6, 5, 7, 5, 6], [0, 6, 5, 7]]


def test_bigrams_are_counted_by_hand():
    followers = Followers(DOCUMENTS, n_context=1, gap=0, vocab_size=10)
    # After 5: 6, 7, 6, 7 (tie, lower first), then all tokens by frequency: 5 (4), 6 (3), 0 and 7 (2).
    assert followers.top(np.array([[9, 5]])).tolist() == [[6, 7, 5, 0, -1, -1, -1, -1, -1, -1]]
    assert followers.top(np.array([[9, 9]]))[0, :4].tolist() == [5, 6, 0, 7]


def test_with_a_gap_the_tokens_between_are_summed_over():
    followers = Followers(DOCUMENTS, n_context=1, gap=1, vocab_size=10)
    # Two places after 5: 5, 5, 7→end, 6→(5, 7, 5), within documents only.
    pairs = [(a, b) for row in DOCUMENTS for a, b in zip(row, row[2:], strict=False) if a == 5]
    counts = {b: sum(pair[1] == b for pair in pairs) for _, b in pairs}
    best = sorted(counts, key=lambda token: (-counts[token], token))
    assert followers.top(np.array([[5]]))[0, : len(best)].tolist() == best


def test_a_trigram_that_was_never_seen_backs_off_to_the_bigram():
    followers = Followers(DOCUMENTS, n_context=2, gap=0, vocab_size=10)
    assert followers.top(np.array([[6, 5]]))[0, :2].tolist() == [7, 6]
    assert followers.top(np.array([[9, 5]]))[0, :2].tolist() == [6, 7]


def test_no_text_cannot_be_counted():
    with pytest.raises(DataError, match="got no text"):
        Followers([], n_context=1, gap=0, vocab_size=10)


@pytest.fixture(scope="module")
def measured():
    model = tiny_model("gpt2")
    rows = tiny_tokens(66, 8)
    hooks = lens_hooks(model, ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"])
    documents = torch.arange(66) // 2
    examples = continue_rows(model, rows, documents, hooks=hooks, n_distances=3, decoding="greedy")
    lens = FutureLens(model, hooks=hooks, contexts=tiny_tokens(4, N_CONTEXT, seed=9), n_distances=3)
    lens.start(examples)
    counted = CountedArms.of(rows.tolist(), n_distances=3, vocab_size=model.d_vocab)
    tuned = TunedLens(model)
    return lens, examples, counted, measure_table(lens, examples, counted=counted, tuned=tuned, decoding="greedy")


def test_every_arm_is_measured_at_every_layer_and_distance(measured):
    lens, _, _, table = measured
    read = {LOGIT_LENS: ["blind"], TUNED_LENS: ["blind"], "linear vocab": ["blind"], LINEAR_HIDDEN: ["blind"]}
    read |= {"fixed prompt": ["blind", "fed"], "learned prompt": ["blind", "fed"]}
    for arm, modes in read.items():
        distances = 1 if arm in (LOGIT_LENS, TUNED_LENS) else 3
        held = [(row.mode, row.hook, row.distance) for row in table.rows if row.arm == arm]
        assert held == [(mode, hook, n) for mode in modes for hook in lens.hooks for n in range(distances)]
    for arm in ("fixed prompt, no transplant", "learned prompt, no transplant", BIGRAM, TRIGRAM):
        held = [(row.mode, row.hook, row.distance) for row in table.rows if row.arm == arm]
        assert held == [(mode, None, n) for mode in ("blind", "fed") for n in range(3)]


def test_the_model_itself_and_the_lens_at_the_last_layer_are_always_right(measured):
    lens, examples, _, table = measured
    for n in range(3):
        row = table.row(ITSELF, "fed", n)
        log_p = logit_lens(lens.model, examples.final[:, n]).log_softmax(-1)
        used = examples.usable[:, n]
        assert row.precision[0].value == 1.0
        assert row.n_examples == int(used.sum())
        assert row.surprisal.value == pytest.approx(-float(log_p.max(-1).values[used].mean()), rel=1e-5)
    assert table.row(LOGIT_LENS, "blind", 0, lens.hooks[-1]).precision[0].value == 1.0


def test_an_untrained_tuned_lens_is_the_logit_lens_and_nothing_said_at_the_last_layer_is_heard_later(measured):
    lens, _, _, table = measured
    for hook in lens.hooks:
        logit, tuned = (table.row(arm, "blind", 0, hook) for arm in (LOGIT_LENS, TUNED_LENS))
        assert (logit.precision, logit.surprisal) == (tuned.precision, tuned.surprisal)
    for n in (1, 2):
        last, alone = table.row(FIXED, "fed", n, lens.hooks[-1]), table.row(FIXED_ALONE, "fed", n)
        assert (last.precision, last.surprisal) == (alone.precision, alone.surprisal)


def test_reconstructions_are_read_instead_of_the_states(measured):
    _, examples, counted, table = measured
    first, last = examples.hooks
    lens = FutureLens(
        measured[0].model,
        hooks=[first, last],
        contexts=tiny_tokens(4, N_CONTEXT),
        n_distances=3,
        methods=["fixed_prompt"],
    )
    found = measure_table(lens, examples, counted=counted, reconstruct={first: torch.zeros_like}, decoding="greedy")
    assert found.row(LOGIT_LENS, "blind", 0, first) != table.row(LOGIT_LENS, "blind", 0, first)
    assert found.row(LOGIT_LENS, "blind", 0, last) == table.row(LOGIT_LENS, "blind", 0, last)
    with pytest.raises(ShapeError, match=r"got a reconstruction of blocks\.9\.hook_z"):
        measure_table(lens, examples, counted=counted, reconstruct={"blocks.9.hook_z": torch.zeros_like}, decoding="g")


def test_the_table_saves_loads_and_prints(measured, tmp_path):
    table = measured[3]
    table.save(tmp_path / "table.json")
    assert LensTable.load(tmp_path / "table.json") == table
    assert "<td>fixed prompt</td><td>fed</td>" in table._repr_html_()
    best = table.best(LINEAR_HIDDEN, "blind", 1)
    held = [table.row(LINEAR_HIDDEN, "blind", 1, hook).precision[0].value for hook in table.hooks]
    assert best.precision[0].value == max(held)
    (tmp_path / "table.json").write_text('{"kind": "lens_table", "schema_version": 1}')
    with pytest.raises(ArtifactError, match="is damaged; measure again"):
        LensTable.load(tmp_path / "table.json")


def test_a_target_counts_from_its_rank_on():
    """Ranks 1 to 10 in turn: within one at rank 1 alone, within five up to rank 5, within ten always."""
    top, targets = torch.arange(10).expand(10, 1, 10), torch.arange(10)[:, None]
    within = score(top, targets, torch.zeros(10, 1, 10).log_softmax(-1)).within[:, 0]
    assert within.sum(0).tolist() == [1, 5, 10]
    assert within[:5, 1].all()
