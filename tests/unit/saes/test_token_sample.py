import pytest
import torch

from interp.errors import ConfigError
from saes.token_sample import iter_sample
from tests.families import tiny_model
from tests.specimens import tiny_stream


@pytest.fixture
def stream(tmp_path):
    return tiny_stream(tmp_path, tiny_model("llama"), n_documents=700)


def _kept(batches):
    return sum(batch.n_kept for batch in batches)


def test_a_small_source_is_read_once(stream):
    assert _kept(iter_sample(stream, 10**9, seed=0)) == _kept(stream.iter_pass())


def test_the_same_seed_gives_the_same_batches(stream):
    first, again, other = (list(iter_sample(stream, 1000, seed=seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a.token_ids, b.token_ids) for a, b in zip(first, again, strict=True))
    assert {batch.document.max().item() for batch in first} != {batch.document.max().item() for batch in other}
    assert 1000 <= _kept(first) < 1100


def test_a_part_does_not_favour_short_documents(stream):
    def mean_length(batches):
        lengths = torch.cat([batch.keep.sum(1) for batch in batches]).double()
        return float(lengths.square().sum() / lengths.sum())

    whole = mean_length(stream.iter_pass())
    parts = [mean_length(iter_sample(stream, 600, seed=seed)) for seed in range(20)]
    assert sum(parts) / 20 == pytest.approx(whole, rel=0.1)


def test_nothing_is_not_a_sample(stream):
    with pytest.raises(ConfigError, match="at least 1"):
        next(iter_sample(stream, 0, seed=0))
