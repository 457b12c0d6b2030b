from dataclasses import replace

import pytest
import torch

from interp.datasets import DataConfig, open_stream
from interp.errors import ConfigError, DataError
from interp.hooks import capture
from interp.lenses.continuations import ContinuationBatches, continue_rows, draw_continuations, joined
from interp.lenses.logit import lens_hooks, logit_lens
from tests.families import KINDS, tiny_model, tiny_tokens
from tests.texts import tiny_texts, write_jsonl


def _continued(model, rows, **settings):
    wanted = {"hooks": lens_hooks(model), "n_distances": 4, "decoding": "greedy"} | settings
    return continue_rows(model, rows, torch.arange(len(rows)), **wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_continuations_are_the_models_own_step_by_step(kind):
    model, rows = tiny_model(kind), tiny_tokens(4, 9)
    found = _continued(model, rows)
    for n in range(4):
        with torch.no_grad():
            expected = model.hf(rows).logits[:, -1].argmax(-1)
        assert torch.equal(found.tokens[:, n], expected)
        rows = torch.cat([rows, expected[:, None]], dim=1)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_final_states_are_what_predicts_each_token_and_hidden_ones_know_the_prefix_alone(kind):
    model, rows = tiny_model(kind), tiny_tokens(4, 9)
    found = _continued(model, rows)
    assert torch.equal(logit_lens(model, found.final).argmax(-1), found.tokens)
    acts = capture(model, rows, lens_hooks(model))
    for layer, hook in enumerate(found.hooks):
        torch.testing.assert_close(found.hidden[:, layer], acts[hook][:, -1], rtol=1e-4, atol=1e-5)


def test_sampled_continuations_follow_the_models_distribution():
    model = tiny_model("llama")
    rows = tiny_tokens(1, 6).expand(1500, -1)
    found = _continued(model, rows, n_distances=1, decoding="sampled", generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        p = model.hf(rows[:1]).logits[0, -1].softmax(-1)
    share = torch.bincount(found.tokens[:, 0], minlength=model.d_vocab) / 1500
    assert float((share - p).abs().max()) < 4 * (0.25 / 1500) ** 0.5


def test_what_comes_behind_the_end_of_a_document_is_not_used():
    model = tiny_model("llama")
    rows = tiny_tokens(400, 5)
    generator = torch.Generator().manual_seed(0)
    found = _continued(model, rows, n_distances=6, decoding="sampled", generator=generator)
    ends = {model.tokenizer.bos_token_id, model.tokenizer.eos_token_id}
    expected = [[not any(t in ends for t in row[:n]) for n in range(6)] for row in found.tokens.tolist()]
    assert found.usable.tolist() == expected
    assert not found.usable.all()


def test_prefix_and_continuation_must_fit_the_context():
    with pytest.raises(ConfigError, match="at most 24, the context of tiny-llama"):
        _continued(tiny_model("llama"), tiny_tokens(2, 22))


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    model = tiny_model("llama")
    data = write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", tiny_texts(60, longest=18))
    return model, open_stream(str(data), model, DataConfig(context_size=20), split="all")


def _drawn(model, stream, **settings):
    wanted = {"n_examples": 40, "n_distances": 3, "decoding": "greedy", "shortest_prefix": 4, "prefixes_per_row": 2}
    return draw_continuations(model, stream, hooks=lens_hooks(model), seed=0, **(wanted | settings))


def test_drawn_prefixes_are_those_of_their_documents(stream):
    model, text = stream
    found = _drawn(model, text)
    documents = {number: [0, *model.tokenizer(words)["input_ids"]] for number, words in text.documents.iter_from()}
    for last, document in zip(found.last.tolist(), found.document.tolist(), strict=True):
        ids = documents[document]
        assert last in [ids[at : at + 2] for at in range(2, len(ids) - 1)]
    assert len(found) == 40


def test_a_prefix_ends_at_a_token_that_the_mask_keeps(stream, monkeypatch):
    model, held = stream
    batches = [replace(batch, keep=batch.keep & (batch.token_ids % 2 == 1)) for batch in held.iter_pass()]
    monkeypatch.setattr(held, "iter_pass", lambda: iter(batches))
    found = _drawn(model, held)
    assert len(found) > 10
    assert (found.last[:, -1] % 2 == 1).all()


def test_the_same_seed_draws_the_same_examples(stream):
    one, two = _drawn(*stream, decoding="sampled"), _drawn(*stream, decoding="sampled")
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.hidden, two.hidden)


def test_rows_that_are_too_short_and_packed_ones_are_refused(stream):
    model, text = stream
    with pytest.raises(DataError, match=r"no row holds 24 tokens .*smaller future.shortest_prefix"):
        _drawn(model, text, shortest_prefix=24)
    packed = open_stream(text.documents.name, model, DataConfig(context_size=20, rows="packed"), split="all")
    with pytest.raises(ConfigError, match="got packed"):
        _drawn(model, packed)


def test_batches_cover_every_example_once_a_pass_and_go_on_from_a_cursor():
    model = tiny_model("llama")
    examples = joined([_continued(model, tiny_tokens(5, 6)), _continued(model, tiny_tokens(7, 8, seed=2))])
    batches = ContinuationBatches(examples, batch_size=4, seed=1)
    first = [next(batches) for _ in range(3)]
    seen = torch.cat([batch.hidden[:, 0] for batch in first])
    assert torch.equal(seen.sum(1).sort().values, examples.hidden[:, 0].sum(1).sort().values)
    cursor = batches.cursor()
    expected = [next(batches).tokens for _ in range(4)]
    again = ContinuationBatches(examples, batch_size=4, seed=1)
    again.seek(cursor)
    assert all(torch.equal(next(again).tokens, tokens) for tokens in expected)


def test_fewer_examples_than_a_batch_are_refused():
    examples = _continued(tiny_model("llama"), tiny_tokens(3, 6))
    with pytest.raises(ConfigError, match="got 3 examples for batches of 4"):
        ContinuationBatches(examples, batch_size=4, seed=0)
