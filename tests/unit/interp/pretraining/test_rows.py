from collections import Counter
from itertools import pairwise

import pytest
import torch

from interp.pretraining.rows import NO_TARGET, DocumentRows

PAD = 1


def numbered_documents() -> list[list[int]]:
    """Documents whose tokens are all different, so that a token tells where it came from."""
    lengths = [2, 3, 8, 9, 10, 17, 18, 40, 5, 7]
    return [[0, *range(100 * i + 2, 100 * i + length), 0] for i, length in enumerate(lengths, start=1)]


def rows(seed: int = 0, batch_tokens: int = 24) -> DocumentRows:
    return DocumentRows(numbered_documents(), context_size=8, batch_tokens=batch_tokens, pad_token_id=PAD, seed=seed)


def one_pass(source: DocumentRows) -> list:
    batches = []
    while source.cursor()["epoch"] == 0:
        batches.append(next(source))
    return batches[:-1]


def test_every_token_is_predicted_once_in_a_pass():
    predicted = Counter(int(t) for batch in one_pass(rows()) for t in batch.targets.flatten() if t != NO_TARGET)
    assert predicted == Counter(token for document in numbered_documents() for token in document[1:])


def test_each_target_is_the_token_that_follows_in_its_document():
    following = {pair for document in numbered_documents() for pair in pairwise(document)}
    for batch in one_pass(rows()):
        asked = batch.targets != NO_TARGET
        pairs = zip(batch.token_ids[asked].tolist(), batch.targets[asked].tolist(), strict=True)
        assert set(pairs) <= following
        assert batch.n_tokens == int(asked.sum())


def test_padding_is_on_the_right_and_batches_are_bounded():
    for batch in one_pass(rows()):
        asked = (batch.targets != NO_TARGET).long()
        assert bool((asked.diff(dim=1) <= 0).all())
        assert bool((batch.token_ids[asked == 0] == PAD).all())
        assert batch.token_ids.shape[1] <= 8
        assert batch.token_ids.numel() <= 24


@pytest.mark.parametrize("n", [0, 3, 20])
def test_seek_takes_up_at_the_cursor(n: int):
    source = rows()
    for _ in range(n):
        next(source)
    other = rows()
    other.seek(source.cursor())
    for _ in range(8):
        assert torch.equal(next(source).token_ids, next(other).token_ids)


def test_passes_cut_and_order_anew():
    source = rows()
    first = one_pass(source)
    source.seek({"epoch": 1, "batch": 0})
    assert any(not torch.equal(batch.token_ids, next(source).token_ids) for batch in first)
