import math

import pytest
import torch

from interp.pretraining.scoring import bits_per_byte, total_nats
from tests.families import tiny_model


def one_token_at_a_time(hf, document: list[int], context_size: int) -> float:
    """The definition: each token given the window that holds it, windows advancing by half a context."""
    nats, half = 0.0, context_size // 2
    for position in range(1, len(document)):
        start = 0 if position <= context_size else half * math.ceil((position - context_size) / half)
        logits = hf(torch.tensor([document[start:position]]), use_cache=False).logits[0, -1]
        nats -= float(logits.log_softmax(-1)[document[position]])
    return nats


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 12, 13, 31])
def test_long_documents_are_scored_token_by_token(n: int):
    model = tiny_model("llama")
    document = torch.randint(4, 40, (n + 1,)).tolist()
    got = total_nats(lambda ids: model.hf(ids, use_cache=False).logits, [document], context_size=8, pad_token_id=2)
    assert got == pytest.approx(one_token_at_a_time(model.hf, document, 8), rel=1e-5)


def test_documents_do_not_see_each_other():
    model = tiny_model("llama")
    documents = [torch.randint(4, 40, (n,)).tolist() for n in (3, 20, 9, 14)]

    def score(some):
        return total_nats(lambda ids: model.hf(ids, use_cache=False).logits, some, context_size=8, pad_token_id=2)

    assert score(documents) == pytest.approx(sum(score([d]) for d in documents), rel=1e-5)


def test_bytes_are_counted_in_utf8():
    assert bits_per_byte(3 * math.log(2), ["ë", "a"]) == pytest.approx(1.0)
