from pathlib import Path

import torch

from interp.pretraining.sampling import iter_samples, sample_token_ids, write_corpus
from tests.families import tiny_model


def drawn(model, n: int = 40, seed: int = 0, max_tokens: int = 60) -> list[list[int]]:
    return sample_token_ids(model, n, generator=torch.Generator().manual_seed(seed), max_tokens=max_tokens)


def test_samples_stop_at_bos_and_at_the_limit():
    documents = drawn(tiny_model("llama"))
    assert all(0 not in ids and 2 not in ids for ids in documents)
    assert max(map(len, documents)) <= 60
    # Some end of their own accord, some outlive the model's context of 24.
    assert min(map(len, documents)) < 24 < max(map(len, documents))


def test_same_seed_same_samples():
    model = tiny_model("llama")
    assert drawn(model) == drawn(model)
    assert drawn(model) != drawn(model, seed=1)
    assert list(iter_samples(model, 5, seed=3)) == list(iter_samples(model, 5, seed=3))


def test_first_token_has_the_model_s_distribution():
    model = tiny_model("llama")
    logits = model.hf(torch.tensor([[0]]), use_cache=False).logits[0, -1]
    logits[2] = -torch.inf
    expected = logits.softmax(-1)
    firsts = [ids[0] if ids else 0 for ids in drawn(model, n=4000, max_tokens=1)]
    got = torch.bincount(torch.tensor(firsts), minlength=40) / 4000
    # Five standard errors of a share.
    assert bool(((got - expected).abs() <= 5 * (expected * (1 - expected) / 4000).sqrt() + 1e-9).all())


def test_equal_texts_give_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_corpus(tmp_path / f"{name}.jsonl.gz", ["Zoë saw\nthe moon.", "End."])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
