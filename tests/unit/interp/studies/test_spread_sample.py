"""Rows from all over the text."""

import torch

from interp.datasets import DataConfig, TokenStream
from interp.documents import open_documents
from interp.studies.spread_sample import spread_sample
from saes.token_sample import iter_sample
from tests.families import tiny_model
from tests.texts import tiny_texts, write_jsonl


def _stream(tmp_path):
    path = write_jsonl(tmp_path / "texts.jsonl", tiny_texts(300))
    return TokenStream(open_documents(str(path)), tiny_model("llama"), DataConfig(context_size=16, batch_tokens=256))


def _documents(batches):
    return {int(one) for batch in batches for one in batch.document[batch.keep]}


def test_a_sample_is_of_the_wanted_size_and_of_all_parts_of_the_text(tmp_path):
    stream = _stream(tmp_path)
    sample = list(spread_sample(stream, 600, within=3000))
    assert abs(sum(batch.n_kept for batch in sample) / 600 - 1) < 0.25
    documents, every = _documents(sample), _documents(iter_sample(stream, 3000, seed=0))
    assert documents < every
    assert min(documents) < 0.1 * max(every)
    assert max(documents) > 0.9 * max(every)


def test_a_larger_sample_holds_the_smaller_one_and_the_largest_is_everything(tmp_path):
    stream = _stream(tmp_path)
    few, many = (_documents(spread_sample(stream, n, within=3000)) for n in (300, 1200))
    assert few < many
    whole = list(iter_sample(stream, 3000, seed=0))
    for ours, theirs in zip(spread_sample(stream, 10_000, within=3000), whole, strict=True):
        assert torch.equal(ours.token_ids, theirs.token_ids)
        assert torch.equal(ours.keep, theirs.keep)
